"""One pass of a rival over a split: accuracy, bytes and mistakes, counted as the cut network's."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from rich.progress import track

from spikebottlenet.lab.baselines.ground import Ground
from spikebottlenet.lab.data import ImageSplit
from spikebottlenet.lab.results import EnergyEstimate, Method, Point
from spikebottlenet.lab.subject import FRAMING_BYTES, WIRE_METHOD
from spikebottlenet.lab.witness import count_mistakes, mistakes

BATCH = 100
_TOP5 = 5


class Answers(NamedTuple):
    """A rival's answers to one batch."""

    logits: torch.Tensor  # [B, classes]
    payload_bytes: Sequence[int]  # of each image


Rival = Callable[[torch.Tensor], Answers]  # of uint8 images [B, H, W, 3]


class Counted(NamedTuple):
    """What one pass found; accuracies in percent."""

    top1: float
    top5: float
    payload_bytes_mean: float
    payload_bytes_p99: float
    confusion: tuple[tuple[int, int, int], ...]


def count(rival: Rival, split: ImageSplit, *, title: str) -> Counted:
    """Run every image of a split."""
    hits = np.zeros(_TOP5, dtype=np.int64)
    sizes: list[int] = []
    wrong: dict[tuple[int, int], int] = {}
    for start in track(range(0, len(split), BATCH), description=title, transient=True):
        labels = split.labels[start : start + BATCH]
        with torch.inference_mode():
            answers = rival(
                torch.from_numpy(np.ascontiguousarray(split.images[start : start + BATCH]))
            )
            scores = answers.logits.float().numpy()
        ranked = np.argsort(-scores, axis=1, kind="stable")[:, :_TOP5]
        hits[: ranked.shape[1]] += (ranked == labels[:, None]).sum(axis=0)
        sizes += answers.payload_bytes
        count_mistakes(wrong, labels, ranked[:, 0])
    return Counted(
        top1=100.0 * float(hits[0]) / len(split),
        top5=100.0 * float(hits.sum()) / len(split),
        payload_bytes_mean=float(np.mean(sizes)),
        payload_bytes_p99=float(np.percentile(sizes, 99)),
        confusion=mistakes(wrong),
    )


def rival_point(
    ground: Ground,
    method: Method,
    setting: str,
    found: Counted,
    *,
    bits: int,
    energy: EnergyEstimate,
    log: str,
    command: str,
    chosen_on: str = "",
) -> Point:
    """A point of what one pass found; ``bits`` are those of an image before coding."""
    features = 32 * ground.architecture.cut_channels * ground.architecture.cut_side**2
    sent = found.payload_bytes_mean > 0
    at_cut = sent and method is not Method.IMAGE
    return Point(
        method=method,
        setting=setting,
        subject=ground.subject,
        top1=round(found.top1, 3),
        top5=round(found.top5, 3),
        bits_before_coding=bits,
        bit_compression=round(features / bits, 3) if at_cut else None,
        payload_bytes_mean=round(found.payload_bytes_mean, 3),
        payload_bytes_p99=round(found.payload_bytes_p99, 3),
        wire_bytes_mean=round(found.payload_bytes_mean + FRAMING_BYTES, 3) if sent else 0.0,
        wire_method=WIRE_METHOD if sent else "nothing is sent",
        energy=(energy,),
        confusion=found.confusion,
        chosen_on=chosen_on,
        log=log,
        command=command,
    )
