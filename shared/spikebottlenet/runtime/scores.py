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


def softmax(logits: npt.NDArray[np.float32]) -> Probabilities:
    """Probabilities of logits [B, classes]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def best_classes(probabilities: Probabilities) -> tuple[ClassScore, ...]:
    """The most probable classes of one image [classes], best first, ``TOP`` at most."""
    order = (-probabilities).argsort(kind="stable")[:TOP]
    return tuple(map(ClassScore, order.tolist(), probabilities[order].tolist()))
