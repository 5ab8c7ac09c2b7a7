"""Settings of ``edge-node``; each is a key of its YAML file and a flag."""

from typing import Literal

from pydantic import Field

from spikebottlenet.accounting.energy import Radio
from spikebottlenet.calling import CallingSettings
from spikebottlenet.codec.spikes import SchemeChoice
from spikebottlenet.daemon import DaemonSettings
from spikebottlenet.preprocess import MAX_IMAGE_PIXELS
from spikebottlenet.rpc.channel import MAX_IMAGE_BYTES


class EdgeSettings(DaemonSettings, CallingSettings):
    """How the edge serves."""

    listen: str = Field("127.0.0.1:50051", description="host:port to serve clients on")
    web_listen: str = Field(
        "127.0.0.1:50052", description="host:port of live page and /metrics; '': none"
    )
    cloud: str = Field("127.0.0.1:50061", description="host:port of the cloud-node")
    bundle_from_cloud: bool = Field(
        False, description="fetch the cloud-node's bundle at the start and on SIGHUP, not `bundle`"
    )
    bundle_store: str = Field("", description="folder of fetched bundles; '' for the usual place")
    deadline_ms: int = Field(
        2000, ge=1, description="wait for the cloud, then the edge exit answers; milliseconds"
    )
    threads: int = Field(1, ge=1, description="threads of the head")
    scheme: SchemeChoice = Field(
        "auto", description="how spikes are written; auto sends the smallest"
    )
    radio: Radio = Field(Radio.WIFI, description="radio profile that sending is estimated by")
    max_in_flight: int = Field(
        32, ge=1, le=1024, description="images that may wait for the cloud at a time"
    )
    max_waiting: int = Field(
        256, ge=1, description="images that may wait for the head; more are refused"
    )
    max_waiting_bytes: int = Field(
        128 * 1024 * 1024, ge=1, description="bytes of their files; more are refused"
    )
    store: Literal["never", "on_failure", "always"] = Field(
        "never",
        description="which spikes go to the durable queue beside those a client asks to store",
    )
    store_path: str = Field("", description="file of the durable queue; '' for the usual place")
    store_max_bytes: int = Field(
        256 * 1024 * 1024, ge=1, description="bytes of spikes that may wait in the queue"
    )
    store_max_count: int = Field(1_000_000, ge=1, description="images that may wait in the queue")
    store_max_age_s: float = Field(
        0.0, ge=0, description="seconds after which a waiting image is dropped; 0: never"
    )
    store_when_full: Literal["reject", "drop_oldest"] = Field(
        "reject", description="what a full queue does"
    )
    store_results: int = Field(100_000, ge=1, description="answers of stored images that are kept")
    store_window: int = Field(
        32, ge=1, le=1024, description="stored images that are on their way at a time"
    )
    stall_s: float = Field(
        10.0, gt=0, description="silence, with stored images sent, that ends a connection"
    )
    max_image_bytes: int = Field(
        MAX_IMAGE_BYTES, ge=1, description="bytes of the largest image file taken"
    )
    max_image_pixels: int = Field(
        MAX_IMAGE_PIXELS, ge=1, description="pixels of the largest image taken"
    )
