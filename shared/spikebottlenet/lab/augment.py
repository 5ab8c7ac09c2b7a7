"""Batched augmentation: indexing over the whole batch, never a Python loop over images."""

import torch


def random_crop_flip(
    images: torch.Tensor, *, side: int, pad: int, generator: torch.Generator
) -> torch.Tensor:
    """Crop a random square window from each reflect-padded image, half of them mirrored.

    ``images`` is uint8 [B, H, W, 3]; the result is uint8 [B, side, side, 3].
    """
    batch, height, width, _ = images.shape
    rows = torch.arange(-pad, height + pad)
    rows = rows.abs()
    rows = torch.where(rows >= height, 2 * (height - 1) - rows, rows)
    columns = torch.arange(-pad, width + pad).abs()
    columns = torch.where(columns >= width, 2 * (width - 1) - columns, columns)
    top = torch.randint(0, height + 2 * pad - side + 1, (batch, 1), generator=generator)
    left = torch.randint(0, width + 2 * pad - side + 1, (batch, 1), generator=generator)
    flip = torch.rand(batch, 1, generator=generator) < 0.5
    steps = torch.arange(side)
    across = torch.where(flip, side - 1 - steps, steps)
    take_rows = rows[top + steps]
    take_columns = columns[left + across]
    index = torch.arange(batch)[:, None, None]
    return images[index, take_rows[:, :, None], take_columns[:, None, :]]
