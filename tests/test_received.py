"""Images as the cloud has received them, decoded for a batch."""

import numpy as np
import pytest

from cloud_node.received import Received, decode_each
from spikebottlenet.codec.context_model import ContextModel
from spikebottlenet.codec.frame import Frame, Scheme, pack_frame
from spikebottlenet.codec.spikes import SpikeCodec
from spikebottlenet.errors import CorruptFrameError
from spikebottlenet.model.shape import SpikeShape
from tests.context_models import in_numpy, random_model

SHAPE = SpikeShape(2, 4, 5, 6)
PRIOR = np.full(tuple(SHAPE), 1 << 14, np.uint16)
MODEL = random_model(SHAPE, 1)


def drawn(seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(tuple(SHAPE)) < 0.3).astype(np.uint8)


def received(codec: SpikeCodec, *frames: bytes) -> Received:
    image = Received(codec)
    for frame in frames:
        image.add(frame)
    return image


def whole(codec: SpikeCodec, seed: int, scheme: str = "context") -> Received:
    return received(codec, codec.encode_spikes(drawn(seed), scheme=scheme))  # type: ignore[arg-type]


def damaged(codec: SpikeCodec) -> Received:
    return received(codec, pack_frame(Frame(Scheme.CONTEXT, 0, 2, b"\x01" * 9)))


def in_pieces(codec: SpikeCodec, seed: int) -> Received:
    spikes = drawn(seed)
    frames = [codec.encode_spikes(spikes[t : t + 1], first_timestep=t) for t in range(2)]
    return received(codec, *frames)


@pytest.mark.parametrize("model", [MODEL, in_numpy(MODEL), None], ids=["as_built", "numpy", "none"])
def test_what_can_be_decoded_of_a_batch_is_and_each_keeps_its_place(
    model: ContextModel | None,
) -> None:
    codec = SpikeCodec(SHAPE, PRIOR, model)
    looked_at = whole(codec, 3)
    looked_at.spikes()
    images = {
        "alike": [whole(codec, seed) for seed in range(6)],
        "of two schemes": [whole(codec, 0), whole(codec, 1, "dense"), whole(codec, 2)],
        "in pieces": [whole(codec, 0), in_pieces(codec, 1), whole(codec, 2)],
        "looked at": [whole(codec, 0), whole(codec, 1), whole(codec, 2), looked_at],
    }
    for batch in images.values():
        for _ in range(2):  # a batch that fails is parted and decoded again
            for seed, spikes in enumerate(decode_each(batch)):
                assert not isinstance(spikes, CorruptFrameError)
                np.testing.assert_array_equal(spikes, drawn(seed))
    for before, more in ((3, []), (1, [in_pieces(codec, 2)])):
        batch = [*(whole(codec, seed) for seed in range(before)), damaged(codec), *more]
        found = decode_each(batch)
        assert [isinstance(one, CorruptFrameError) for one in found] == [
            *[False] * before,
            True,
            *[False] * len(more),
        ]


def test_images_of_one_timestep_are_decoded_together_too() -> None:
    codec = SpikeCodec(SHAPE, PRIOR, MODEL)
    batch = [received(codec, codec.encode_spikes(drawn(seed)[:1])) for seed in range(4)]
    for seed, spikes in enumerate(decode_each(batch)):
        np.testing.assert_array_equal(spikes, drawn(seed)[:1])
