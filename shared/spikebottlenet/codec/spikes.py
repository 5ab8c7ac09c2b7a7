"""Spikes to frames and back: the codec's two verbs."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from spikebottlenet.codec import dense, entropy, sparse, zstd
from spikebottlenet.codec.frame import Frame, Scheme, pack_frame, unpack_frame
from spikebottlenet.codec.sites import Prior, Sites
from spikebottlenet.errors import CorruptFrameError
from spikebottlenet.model.shape import SpikeShape

SchemeChoice = Literal["auto", "dense", "zstd", "sparse", "entropy"]


class SpikeRange(NamedTuple):
    """Spikes of consecutive timesteps of one image."""

    first_timestep: int
    spikes: npt.NDArray[np.uint8]  # [t, C, H, W] in {0, 1}


@dataclass(frozen=True)
class SpikeCodec:
    """Shape and prior that both sides hold, from the bundle."""

    shape: SpikeShape
    prior: Prior  # [T, C, H, W]

    def __post_init__(self) -> None:
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

        ``auto`` sends the smallest payload. A scheme that would go above ``dense`` is sent dense.

        Raises:
            ValueError: a shape that is not this codec's.
        """
        count = len(spikes)
        inside = first_timestep >= 0 and 1 <= count <= self.shape.timesteps - first_timestep
        if not inside or spikes.shape[1:] != tuple(self.shape)[1:]:
            raise ValueError(
                f"spikes {spikes.shape} from timestep {first_timestep}, "
                f"wanted timesteps within {tuple(self.shape)}"
            )
        sites = np.ascontiguousarray(spikes, dtype=np.uint8).reshape(-1)
        names = [Scheme.DENSE]
        names += [s for s in Scheme if scheme in ("auto", s.name.lower()) and s != Scheme.DENSE]
        payloads = {s: self._payload(s, sites, first_timestep, count) for s in names}
        if scheme != "auto":
            wanted = Scheme[scheme.upper()]
            fits = len(payloads[wanted]) <= len(payloads[Scheme.DENSE])
            chosen = wanted if fits else Scheme.DENSE
        else:
            chosen = min(names, key=lambda s: len(payloads[s]))
        return pack_frame(Frame(chosen, first_timestep, count, payloads[chosen]))

    def decode_spikes(self, data: bytes, *, context: bytes = b"") -> SpikeRange:
        """Read a frame bound to ``context``, checking everything before it is unpacked.

        Raises:
            CorruptFrameError: names what is wrong.
        """
        frame = unpack_frame(data, self.shape, context=context)
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
        if len(sites) != count:
            raise CorruptFrameError(f"payload holds {len(sites)} sites, wanted {count}")
        spikes = sites.reshape(frame.timesteps, *tuple(self.shape)[1:])
        return SpikeRange(frame.first_timestep, spikes)

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
