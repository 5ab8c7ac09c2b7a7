"""Class probabilities as an answer: the best five, and how sure."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

TOP = 5

Probabilities = npt.NDArray[np.float32]


class ClassScore(NamedTuple):
    """A class and its probability."""

    class_index: int
    probability: float  # 0 to 1


Scores = tuple[ClassScore, ...]


def softmax(logits: npt.NDArray[np.float32]) -> Probabilities:
    """Probabilities of logits [B, classes]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def best_of_each(probabilities: Probabilities) -> list[Scores]:
    """The most probable classes of each image [B, classes], best first, ``TOP`` at most."""
    order = (-probabilities).argsort(axis=1, kind="stable")[:, :TOP]
    best = probabilities[np.arange(len(order))[:, None], order]
    return [
        tuple(map(ClassScore, classes, chances))
        for classes, chances in zip(order.tolist(), best.tolist(), strict=True)
    ]


def best_classes(probabilities: Probabilities) -> Scores:
    """Those of one image [classes]."""
    return best_of_each(probabilities[None])[0]
