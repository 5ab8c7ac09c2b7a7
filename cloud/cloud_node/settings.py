"""Settings of ``cloud-node``; each is a key of its YAML file and a flag."""

import math
import os

from pydantic import Field

from cloud_node.models import TailOptions
from cloud_node.waiting import BatchLimits
from spikebottlenet.daemon import DaemonSettings
from spikebottlenet.runtime.tail_engine import Precision


class CloudSettings(DaemonSettings):
    """How the cloud serves."""

    listen: str = Field(
        "127.0.0.1:50061", description="host:port to serve on; 0.0.0.0 for every interface"
    )
    web_listen: str = Field(
        "127.0.0.1:50062", description="host:port of live page and /metrics; '': none"
    )
    device: str = Field("cpu", description="torch device of the tail: cpu, cuda, cuda:1")
    precision: Precision = Field(
        Precision.AUTO,
        description="of the tail: float32, int8 (cpu), or auto: int8 where the bundle has it",
    )
    threads: int = Field(0, ge=0, description="threads of the tails on a cpu; 0: one a core")
    max_batch: int = Field(32, ge=1, description="images that one pass of the tail takes at most")
    # A batch that runs holds up whoever comes. Where a processor's core takes as long for an image
    # whatever the batch, a larger one gains no more than fewer messages.
    max_batch_ms: float = Field(
        100.0,
        ge=0,
        description="and what its images take together, as estimated; a single one may take "
        "longer; 0: any",
    )
    max_in_flight: int = Field(
        32, ge=1, le=1024, description="images of one stream that may wait for their answer"
    )
    max_waiting: int = Field(
        512, ge=1, description="images of all streams that may wait; more are refused"
    )
    max_waiting_bytes: int = Field(
        64 * 1024 * 1024, ge=1, description="bytes of spikes that may wait; more are refused"
    )
    # A quarter of what an edge waits for the cloud unless told otherwise. A longer queue answers no
    # more images, only later.
    max_queue_ms: float = Field(
        500.0,
        ge=0,
        description="estimated wait above which an image is refused at once; 0: any",
    )
    max_wait_ms: float = Field(
        0.0, ge=0, description="how long an image waits for others to go with when the tail is idle"
    )
    max_message_bytes: int = Field(
        1024 * 1024, ge=4096, description="bytes of the largest message taken"
    )
    enough_confidence: float = Field(
        1.0,
        gt=0,
        le=1,
        description="answer before all timesteps have come once this sure; 1 waits for all",
    )
    answer_cache: int = Field(
        4096, ge=1, description="answers kept for an edge that reconnects and asks again"
    )

    @property
    def tail_threads(self) -> int:
        """Threads of the tails, all together."""
        return self.threads or len(os.sched_getaffinity(0))

    def tail_options(self) -> TailOptions:
        """How the tails run."""
        return TailOptions(self.device, self.precision, self.tail_threads)

    def batch_limits(self) -> BatchLimits:
        """How the tail batches."""
        return BatchLimits(
            max_batch=self.max_batch,
            max_batch_s=self.max_batch_ms / 1000 or math.inf,
            max_waiting=self.max_waiting,
            max_waiting_bytes=self.max_waiting_bytes,
            max_queue_s=self.max_queue_ms / 1000 or math.inf,
            # What one stream was told it may send is not refused to it when it is alone, however
            # slow the machine; nor is a full batch.
            min_waiting=max(self.max_in_flight, self.max_batch),
            max_wait_s=self.max_wait_ms / 1000,
            lanes=self.tail_threads if self.device == "cpu" else 1,
        )
