"""The models that a cloud serves, by fingerprint; they can be changed while it runs."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from spikebottlenet.accounting.energy import compute_uj
from spikebottlenet.bundle import Bundle, Half, open_bundle
from spikebottlenet.codec.spikes import SpikeCodec
from spikebottlenet.errors import ConfigError, ModelMismatchError
from spikebottlenet.logs import fields
from spikebottlenet.runtime.tail_engine import Precision, TailEngine, load_tail

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ServedModel:
    """One bundle's cloud half, loaded."""

    bundle: Bundle
    codec: SpikeCodec
    tail: TailEngine

    @cached_property
    def tail_uj(self) -> tuple[float, ...]:
        """Estimated energy of decoder and tail for 1, 2, ... timesteps, microjoules."""
        return tuple(compute_uj(macs, 0) for macs in self.bundle.manifest.operations.tail_macs)


@dataclass(frozen=True)
class TailOptions:
    """How tails run."""

    device: str = "cpu"
    precision: Precision = Precision.AUTO
    threads: int = 1  # of a batch that has them all


def load_model(folder: Path, options: TailOptions) -> ServedModel:
    """Open and check a bundle's cloud half.

    Raises:
        BundleError: what is wrong with it.
        ConfigError: it has no tail that runs so.
    """
    bundle = open_bundle(folder, Half.CLOUD)
    codec = bundle.codec()
    tail = load_tail(
        bundle, device=options.device, precision=options.precision, threads=options.threads
    )
    # Once through, so that the first image is as fast as the next.
    silent = np.zeros(tuple(codec.shape), dtype=np.uint8)
    received = codec.decode_spikes(codec.encode_spikes(silent)).spikes[:, None]
    for threads in {1, options.threads}:
        tail.classify(received, threads=threads)
    engine = type(tail).__name__
    log.info("tail loaded", extra=fields(model=bundle.model, engine=engine, device=options.device))
    return ServedModel(bundle, codec, tail)


class ServedModels:
    """Every model served; the first is what an edge gets that asks for none by name."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self._models = _by_fingerprint(models)

    @property
    def first(self) -> ServedModel:
        """The model named first in the settings."""
        return next(iter(self._models.values()))

    def __iter__(self) -> Iterator[ServedModel]:
        """In the order of the settings."""
        return iter(self._models.values())

    def find(self, fingerprint: bytes) -> ServedModel:
        """The model of an edge.

        Raises:
            ModelMismatchError: not served here; names every fingerprint.
        """
        found = self._models.get(fingerprint.hex())
        if found is None:
            served = ", ".join(f"{f} ({m.bundle.manifest.name})" for f, m in self._models.items())
            raise ModelMismatchError(
                f"edge holds bundle {fingerprint.hex() or '(none)'}, cloud holds {served}: "
                "give both the same bundle"
            )
        return found

    def serves(self, model: ServedModel) -> bool:
        """Whether this model is still served."""
        return self._models.get(model.bundle.fingerprint) is model

    async def change(self, folders: Sequence[Path], options: TailOptions) -> None:
        """Serve the bundles of these folders instead; one that is served already stays loaded.

        Raises:
            BundleError, ConfigError: one cannot be used; nothing changed.
        """
        loaded = [await asyncio.to_thread(load_model, folder, options) for folder in folders]
        fresh = _by_fingerprint(loaded)
        self._models = {f: self._models.get(f, model) for f, model in fresh.items()}


def _by_fingerprint(models: Sequence[ServedModel]) -> dict[str, ServedModel]:
    if not models:
        raise ConfigError("no bundle to serve: name at least one with --bundle")
    return {model.bundle.fingerprint: model for model in models}
