"""What a bundle is, for a point: network, cut, data and config. Imports no torch."""

import hashlib

from spikebottlenet.accounting.energy import MAC_PJ, PJ_PER_UJ
from spikebottlenet.accounting.energy_profile import INTEGER8
from spikebottlenet.accounting.operations import ann_head_macs
from spikebottlenet.accounting.wire import GRPC_PREFIX_BYTES, HTTP2_FRAME_BYTES
from spikebottlenet.bundle import Bundle
from spikebottlenet.config import read_yaml
from spikebottlenet.lab.results import EnergyEstimate, Subject
from spikebottlenet.model.architecture import Architecture

ENERGY_MODEL = "horowitz45-fp32"  # 4.6 pJ a multiply-accumulate, 0.9 pJ an accumulate
INT8_MODEL = "horowitz45-int8"  # 8-bit multiplies, 32-bit adds; a spiking head's stem in float32
INT8_MAC_PJ = INTEGER8.mac_pj  # with the 32-bit add that its sums need
FRAMING_BYTES = GRPC_PREFIX_BYTES + HTTP2_FRAME_BYTES
WIRE_METHOD = (
    f"frame + {FRAMING_BYTES}: gRPC prefix and HTTP/2 frame header; the message's own fields and "
    "what belongs to the connection are left out"
)
_CONFIG = "training.yaml"  # as lab.export lays it beside a bundle


def cut_name(architecture: Architecture) -> str:
    """The part of the network that the cut comes after."""
    backbone = str(getattr(architecture, "backbone", "resnet18"))
    part = "block" if backbone.startswith("mobilenet") else "layer"
    return f"{part}{architecture.after_stage}"


def subject_of(bundle: Bundle, *, data: str, split: str, images: int) -> Subject:
    """What a bundle is; seed and hash come from the config beside it."""
    architecture = bundle.manifest.architecture
    config = bundle.path(_CONFIG)
    values, digest = {}, ""
    if config.is_file():
        digest = hashlib.sha256(config.read_bytes()).hexdigest()
        found = read_yaml(config)
        values = found if isinstance(found, dict) else {}
    return Subject(
        backbone=str(getattr(architecture, "backbone", "resnet18")),
        width=architecture.width,
        cut=cut_name(architecture),
        timesteps=architecture.timesteps,
        side=architecture.side,
        data=data,
        split=split,
        images=images,
        seed=int(values.get("seed", 0)),
        config_sha256=digest,
    )


def head_estimate(
    architecture: Architecture,
    edge_uj: float,
    parts: dict[str, float] | None = None,
    *,
    model: str = ENERGY_MODEL,
) -> EnergyEstimate:
    """Energy of a head, beside ordinary heads at the same cut."""
    ordinary = ann_head_macs(architecture)
    return EnergyEstimate(
        model=model,
        edge_uj=round(edge_uj, 4),
        parts=parts or {},
        ordinary_head_uj=round(ordinary * MAC_PJ / PJ_PER_UJ, 4),
        ordinary_int8_head_uj=round(ordinary * INT8_MAC_PJ / PJ_PER_UJ, 4),
    )
