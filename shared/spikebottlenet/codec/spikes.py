"""Spikes to frames and back: the codec's two verbs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from spikebottlenet.codec import context, dense, entropy, sparse, zstd
from spikebottlenet.codec.context_model import ContextModel
from spikebottlenet.codec.frame import Frame, Scheme, dense_bytes, pack_frame, unpack_frame
from spikebottlenet.codec.sites import Prior, Sites
from spikebottlenet.errors import CorruptFrameError
from spikebottlenet.model.shape import SpikeShape

SchemeChoice = Literal["auto", "dense", "zstd", "sparse", "entropy", "context"]

# An image whose payload stays below so many times what the prior expects is a usual one.
_USUAL = 1.25


class SpikeRange(NamedTuple):
    """Spikes of consecutive timesteps of one image."""

    first_timestep: int
    spikes: npt.NDArray[np.uint8]  # [t, C, H, W] in {0, 1}


@dataclass(frozen=True)
class SpikeCodec:
    """Shape, prior and context model that both sides hold, from the bundle."""

    shape: SpikeShape
    prior: Prior  # [T, C, H, W]
    context: ContextModel | None = None  # bundles made before there was one have none

    def __post_init__(self) -> None:
        if self.context is not None and self.context.shape != self.shape:
            raise ValueError(f"context model is {self.context.shape}, wanted {self.shape}")
        if self.prior.shape != tuple(self.shape):
            raise ValueError(f"prior is {self.prior.shape}, wanted {tuple(self.shape)}")
        if self.prior.dtype != np.uint16 or not self.prior.all():
            raise ValueError("prior must be uint16 with every value from 1 to 65,535")

    def encode_spikes(
        self,
        spikes: npt.NDArray[np.uint8],
        *,
        first_timestep: int = 0,
        scheme: SchemeChoice = "auto",
    ) -> bytes:
        """Write spikes [t, C, H, W] in {0, 1}, timestep ``first_timestep`` on, as one frame.

        ``auto`` sends the smallest payload that it finds: the one under the bundle's model when
        the image is a usual one, as nothing else comes near that; else the smallest of all. A
        scheme that would go above ``dense`` is sent dense; ``context`` without such a model, or
        from a later timestep on, is sent by ``entropy``.

        Raises:
            ValueError: a shape that is not this codec's.
        """
        count = len(spikes)
        inside = first_timestep >= 0 and 1 <= count <= self.shape.timesteps - first_timestep
        if not inside or spikes.shape[1:] != self.shape[1:]:
            raise ValueError(
                f"spikes {spikes.shape} from timestep {first_timestep}, "
                f"wanted timesteps within {tuple(self.shape)}"
            )
        sites = np.ascontiguousarray(spikes, dtype=np.uint8).reshape(-1)
        modelled = (
            Scheme.CONTEXT if self.context is not None and first_timestep == 0 else Scheme.ENTROPY
        )
        chosen = modelled if scheme in ("auto", "context") else Scheme[scheme.upper()]
        payload = self._payload(chosen, sites, first_timestep, count)
        if scheme == "auto" and len(payload) > self._usual_bytes(first_timestep, count):
            candidates: dict[Scheme, bytes] = {chosen: payload}
            for other in (Scheme.DENSE, Scheme.ZSTD, Scheme.SPARSE, Scheme.ENTROPY):
                candidates[other] = self._payload(other, sites, first_timestep, count)
            chosen = min(candidates, key=lambda s: len(candidates[s]))
            payload = candidates[chosen]
        if len(payload) > dense_bytes(len(sites)):
            chosen, payload = Scheme.DENSE, dense.encode(sites)
        return pack_frame(Frame(chosen, first_timestep, count, payload))

    def decode_spikes(self, data: bytes, *, context: bytes = b"") -> SpikeRange:
        """Read a frame bound to ``context``, checking everything before it is unpacked.

        Raises:
            CorruptFrameError: names what is wrong.
        """
        return self.decode_frame(self.unpack(data, context=context))

    def unpack(self, data: bytes, *, context: bytes = b"") -> Frame:
        """Take a frame bound to ``context`` apart, checked but not yet decoded.

        Raises:
            CorruptFrameError: names what is wrong.
        """
        return unpack_frame(data, self.shape, context=context)

    def decode_frame(self, frame: Frame) -> SpikeRange:
        """Decode the payload of a frame that was unpacked.

        Raises:
            CorruptFrameError: names what is wrong.
        """
        count = frame.timesteps * self.shape.sites
        match frame.scheme:
            case Scheme.DENSE:
                sites = dense.decode(frame.payload, count)
            case Scheme.ZSTD:
                sites = zstd.decode(frame.payload, count)
            case Scheme.SPARSE:
                sites = sparse.decode(frame.payload, count)
            case Scheme.ENTROPY:
                sites = entropy.decode(
                    frame.payload, self._prior(frame.first_timestep, frame.timesteps)
                )
            case Scheme.CONTEXT:
                sites = self._decode_context(frame)
        if len(sites) != count:
            raise CorruptFrameError(f"payload holds {len(sites)} sites, wanted {count}")
        spikes = sites.reshape(frame.timesteps, *self.shape[1:])
        return SpikeRange(frame.first_timestep, spikes)

    def goes_together(self, frame: Frame) -> bool:
        """Whether such frames can be decoded together: of whole images, under the bundle's model.

        It takes less time, and not the interpreter's lock.
        """
        whole = frame.timesteps == self.shape.timesteps
        return whole and frame.scheme is Scheme.CONTEXT and self.context is not None

    def decode_together(
        self, frames: Sequence[Frame]
    ) -> list[npt.NDArray[np.uint8] | CorruptFrameError]:
        """The spikes [T, C, H, W] of frames that go together, or what is wrong with one."""
        if self.context is None or not frames:
            return []
        payloads = tuple(frame.payload for frame in frames)
        return [
            sites if isinstance(sites, CorruptFrameError) else sites.reshape(tuple(self.shape))
            for sites in context.decode_each(payloads, self.context, self.shape.timesteps)
        ]

    def _decode_context(self, frame: Frame) -> Sites:
        if self.context is None:
            raise CorruptFrameError(
                "frame scheme is context, and this bundle has no context model: "
                "send by another scheme, or refit the bundle"
            )
        if frame.first_timestep:
            raise CorruptFrameError(
                f"frame of scheme context begins at timestep {frame.first_timestep}, wanted 0"
            )
        return context.decode(frame.payload, self.context, frame.timesteps)

    @cached_property
    def _expected_bytes(self) -> list[float]:
        """Entropy of each timestep under the prior."""
        p = self.prior.reshape(self.shape.timesteps, -1) / entropy.PRIOR_ONE
        bits = -(p * np.log2(p) + (1 - p) * np.log2(1 - p)).sum(axis=1)
        return [float(each) / 8 for each in bits]

    def _usual_bytes(self, first: int, count: int) -> float:
        return _USUAL * sum(self._expected_bytes[first : first + count])

    def _prior(self, first: int, count: int) -> Prior:
        return self.prior[first : first + count].reshape(-1)

    def _payload(self, scheme: Scheme, sites: Sites, first: int, count: int) -> bytes:
        match scheme:
            case Scheme.DENSE:
                return dense.encode(sites)
            case Scheme.ZSTD:
                return zstd.encode(sites)
            case Scheme.SPARSE:
                return sparse.encode(sites)
            case Scheme.ENTROPY:
                return entropy.encode(sites, self._prior(first, count))
            case Scheme.CONTEXT:
                if self.context is None:
                    raise ValueError("no context model in this codec")
                return context.encode(sites, self.context)
