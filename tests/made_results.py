"""Made points for reports: figures are invented, so that what a report says can be foretold."""

from pathlib import Path

from spikebottlenet.lab.results import (
    EnergyEstimate,
    LayerRate,
    Method,
    Point,
    Prefix,
    Subject,
    add_points,
)

NAMES = ("apple", "pear", "maple_tree", "oak_tree")


def subject(**changes: object) -> Subject:
    made = {
        "backbone": "resnet18",
        "width": 64,
        "cut": "layer2",
        "timesteps": 2,
        "side": 32,
        "data": "uoft-cs/cifar100",
        "split": "test",
        "images": 10000,
        "seed": 0,
        "config_sha256": "ab" * 32,
    }
    return Subject.model_validate(made | changes)


def point(method: Method, setting: str, top1: float, payload: float, uj: float, **more) -> Point:
    """A point; keywords of a subject go there."""
    about = {name: more.pop(name) for name in list(more) if name in Subject.model_fields}
    estimate = {"model": "horowitz45-fp32", "edge_uj": uj, "ordinary_head_uj": 1200.0}
    made = {
        "method": method,
        "setting": setting,
        "subject": subject(**about),
        "top1": top1,
        "top5": min(100.0, top1 + 20),
        "bits_before_coding": round(8 * payload),
        "payload_bytes_mean": payload,
        "payload_bytes_p99": 1.2 * payload,
        "wire_bytes_mean": payload + 14 if payload else 0,
        "wire_method": "frame + 14",
        "energy": (EnergyEstimate.model_validate(estimate),),
        "log": "cut.jsonl",
        "command": f"spikebottlenet evaluate {setting}",
    }
    return Point.model_validate(made | more)


def spikes(top1: float, payload: float, uj: float, **more) -> Point:
    made = {
        "uncut_top1": 75.0,
        "bit_compression": 256.0,
        "head_bits": 32,
        "head_bytes": 1000,
        "firing_rates": (
            LayerRate(layer="act1", rate=0.3),
            LayerRate(layer="encoder.act", rate=0.1),
        ),
        "by_timesteps": (
            Prefix(timesteps=1, top1=top1 - 4, payload_bytes_mean=payload / 2),
            Prefix(timesteps=2, top1=top1, payload_bytes_mean=payload),
        ),
        "confusion": ((0, 1, 5), (1, 0, 7), (2, 3, 30), (3, 2, 1)),
    }
    setting = more.pop("setting", "2048 spike bits")
    return point(Method.SPIKES, setting, top1, payload, uj, **(made | more))


def rivals(**about) -> list[Point]:
    """One of each kind."""
    return [
        point(Method.SPIKES_WHOLE, "features whole + zstd", 74.0, 4000, 60, **about),
        point(Method.EDGE_ORDINARY, "un-cut network", 75.0, 0, 2500, **about),
        point(Method.EDGE_SPIKING, "edge exit", 55.0, 0, 41, **about),
        point(Method.FEATURES, "float32 + zstd", 75.0, 20000, 1200, **about),
        point(Method.FEATURES, "4-bit + zstd", 72.0, 3000, 1200, **about),
        point(Method.BOTTLENETPP, "16 channels", 73.0, 250, 1230, **about),
        point(Method.INTEGER, "16 channels", 72.5, 250, 61.5, **about),
        point(Method.IMAGE, "jpeg 10", 40.0, 700, 0, **about),
        point(Method.IMAGE, "jpeg 50", 73.5, 1000, 0, **about),
        point(Method.IMAGE, "webp 60", 73.8, 520, 0, **about),
        point(Method.IMAGE, "avif 60", 74.0, 610, 0, **about),
    ]


def write_run(folder: Path, points: list[Point], names: tuple[str, ...] = NAMES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    add_points(folder, names, points)
    return folder
