"""Scheme ``context``: every spike coded under a probability that its decoded neighbours give.

    logit[site] = bias[site] + sum of weights of the neighbours that spiked
    probability of a spike = table[logit] / 65,536

Sites are coded in passes, so that all of one pass are coded at once: timestep by timestep; in one,
the first half of the channels and then the second; in those, the white fields of a checkerboard
and then the black ones (He et al., "Checkerboard Context Model", CVPR 2021, arXiv 2103.15306). A
site's neighbours are the sites of its 3 x 3 field, in the timestep before and in its own, that
earlier passes hold; beyond the border and before timestep 0 nothing spikes. So a frame of this
scheme begins at timestep 0.

All that decides a probability is an integer and exact: the sums stay below 2^24, and float32
products and sums of such integers are exact in whatever order they are made (they are in float32
because that is what linear algebra libraries are fast at). So both sides agree bit for bit, on
every machine and with any number of threads.

Coder: asymmetric numeral systems, from the constriction library (Bamler, arXiv 2201.01741), with
its categorical models of two symbols: they write what its Bernoulli models would, in half the time.
Decoding is the exact reverse of encoding, so a payload that leaves the decoder empty is what
``encode`` writes: nothing is encoded again to prove it. Trailing zero bytes are left out.

Where the package was built with a C compiler, ``_native.c`` does all of this, byte for byte the
same, in a third of the time and less where caches are cold; else NumPy does, as where sums of a
model's tables take more than 16 bits.
"""

from collections.abc import Sequence
from functools import partial

import constriction
import numpy as np

from spikebottlenet.codec.context_model import ContextModel
from spikebottlenet.codec.context_room import Room
from spikebottlenet.codec.frame import dense_bytes
from spikebottlenet.codec.sites import Sites
from spikebottlenet.errors import CorruptFrameError

_WORD_BYTES = 4


def _model() -> constriction.stream.model.Categorical:
    return constriction.stream.model.Categorical(perfect=False)


def encode(spikes: Sites, model: ContextModel) -> bytes:
    """Code sites [n] of {0, 1}, whole timesteps from 0 on."""
    if model.native is not None:
        return model.native.encode(spikes)
    sites = model.in_order(spikes)
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(sites.astype(np.int32), _model(), model.chances(spikes))
    return np.asarray(coder.get_compressed(), dtype="<u4").tobytes().rstrip(b"\0")


def decode(payload: bytes, model: ContextModel, timesteps: int) -> Sites:
    """Decode so many timesteps from 0 on.

    Raises:
        CorruptFrameError: not what ``encode`` writes for any spikes.
    """
    if (error := _refused(payload, dense_bytes(timesteps * model.shape.sites))) is not None:
        raise error
    (sites,) = _decoded((payload,), model, timesteps)
    if sites is None:
        raise _no_code()
    return sites


def decode_each(
    payloads: tuple[bytes, ...], model: ContextModel, timesteps: int
) -> list[Sites | CorruptFrameError]:
    """Decode images of so many timesteps each, or say what is wrong with one."""
    limit = dense_bytes(timesteps * model.shape.sites)
    refused = [_refused(payload, limit) for payload in payloads]
    # In place of one that is not looked into: no bytes, so that each keeps its place.
    taken = tuple(b"" if error else it for it, error in zip(payloads, refused, strict=True))
    return [
        error or (_no_code() if sites is None else sites)
        for error, sites in zip(refused, _decoded(taken, model, timesteps), strict=True)
    ]


def _decoded(
    payloads: tuple[bytes, ...], model: ContextModel, timesteps: int
) -> Sequence[Sites | None]:
    """Decode images; None for one whose payload is the code of none."""
    if model.native is None:
        return [_in_numpy(payload, model, timesteps) for payload in payloads]
    spikes, whole = model.native.decode(payloads, timesteps)
    rows = np.frombuffer(spikes, dtype=np.uint8).reshape(-1, timesteps * model.shape.sites)
    return [row if good else None for row, good in zip(rows, whole, strict=True)]


def _refused(payload: bytes, limit: int) -> CorruptFrameError | None:
    """What is wrong with a payload as it stands."""
    if len(payload) > limit:
        return CorruptFrameError(f"payload of {len(payload)} bytes, wanted at most {limit}")
    if payload.endswith(b"\0"):
        return CorruptFrameError("payload ends in a zero byte, which is never written: resend it")
    return None


def _no_code() -> CorruptFrameError:
    return CorruptFrameError("payload is not the code of any spikes: resend it")


def _in_numpy(payload: bytes, model: ContextModel, timesteps: int) -> Sites | None:
    """Decode one image; None if its payload is the code of none."""
    padded = payload.ljust(-(-len(payload) // _WORD_BYTES) * _WORD_BYTES, b"\0")
    coder = constriction.stream.stack.AnsCoder(np.frombuffer(padded, "<u4").astype(np.uint32))
    categorical = _model()
    try:
        room = model.rooms.pop()
    except IndexError:
        room = Room(model)
    sites = room.decode(partial(coder.decode, categorical), timesteps)
    model.rooms.append(room)
    return sites if coder.is_empty() else None
