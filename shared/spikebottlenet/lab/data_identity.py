"""Which images a split holds, whatever the data set is called and wherever it lies."""

import hashlib

import numpy as np

from spikebottlenet.lab.data import ImageSplit


def images_sha256(split: ImageSplit) -> str:
    """SHA-256 of pixels and class names in no order of rows or classes; empty without digests.

    Pixels are as the network sees them, so the same photos at another side give another one.
    """
    if split.digests is None:
        return ""
    found = hashlib.sha256()
    rows = np.lexsort((split.digests, split.labels))
    labels, digests = split.labels[rows], split.digests[rows].astype("<u8")
    for name, label in sorted((name, label) for label, name in enumerate(split.class_names)):
        first, last = np.searchsorted(labels, (label, label + 1))
        if first < last:
            found.update(f"{name}\0{last - first}\n".encode())
            found.update(digests[first:last].tobytes())
    return found.hexdigest()
