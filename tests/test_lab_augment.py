"""Crops: each is a window of its reflect-padded image, as it is or mirrored."""

import numpy as np
import pytest
import torch

from spikebottlenet.lab.augment import random_crop_flip


@pytest.mark.parametrize(("side", "pad"), [(8, 2), (6, 0), (5, 3)])
def test_crops_are_windows_of_their_images(side: int, pad: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
    generator = torch.Generator().manual_seed(1)
    crops = random_crop_flip(torch.from_numpy(images), side=side, pad=pad, generator=generator)
    assert crops.shape == (40, side, side, 3)
    mirrored, places = 0, set()
    for image, crop in zip(images, crops.numpy(), strict=True):
        padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
        found = [
            (top, left, flip)
            for top in range(8 + 2 * pad - side + 1)
            for left in range(8 + 2 * pad - side + 1)
            for flip in (False, True)
            if (padded[top : top + side, left : left + side][:, :: -1 if flip else 1] == crop).all()
        ]
        assert found
        places.add(found[0][:2])
        mirrored += found[0][2]
    assert 8 < mirrored < 32
    assert len(places) > 5 or side == 8 + 2 * pad


def test_nothing_is_mirrored_where_that_is_not_wanted() -> None:
    ramp = torch.arange(12, dtype=torch.uint8).repeat(64, 12, 1)[..., None].repeat(1, 1, 1, 4)
    generator = torch.Generator().manual_seed(0)
    crops = random_crop_flip(ramp, side=8, pad=0, flip=False, generator=generator)
    assert (crops.long().diff(dim=2) == 1).all()


def test_the_same_seed_gives_the_same_crops() -> None:
    images = torch.randint(0, 256, (9, 12, 12, 3), dtype=torch.uint8)
    one, two = (
        random_crop_flip(images, side=8, pad=1, generator=torch.Generator().manual_seed(5))
        for _ in range(2)
    )
    assert torch.equal(one, two)
