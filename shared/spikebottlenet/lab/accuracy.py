"""Top-1 accuracy of whatever maps images to logits, the work shared by all processes."""

from collections.abc import Callable

import torch

from spikebottlenet.lab.data import ImageSplit
from spikebottlenet.lab.workers import Workers
from spikebottlenet.model.exact import PixelScale

EVALUATION_BATCH = 250


def top1(
    logits_of: Callable[[torch.Tensor], torch.Tensor],
    split: ImageSplit,
    pixels: PixelScale,
    *,
    among: Workers,
    device: torch.device,
) -> float:
    """Percent of the images whose greatest logit is their label's; the same on each process."""
    right = torch.zeros((), dtype=torch.int64, device=device)
    step = EVALUATION_BATCH * among.count
    with torch.inference_mode():
        for start in range(EVALUATION_BATCH * among.index, len(split), step):
            rows = slice(start, start + EVALUATION_BATCH)
            images = pixels.normalise(torch.from_numpy(split.images[rows])).to(device)
            labels = torch.from_numpy(split.labels[rows]).to(device)
            right += (logits_of(images).argmax(1) == labels).sum()
    return 100.0 * int(among.total(right)) / max(len(split), 1)
