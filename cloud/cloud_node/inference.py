"""One image in the cloud: frames to a prediction, accounted and logged."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from cloud_node.settings import CloudSettings
from cloud_node.tail_worker import Spikes, TailWorker
from spikebottlenet.accounting.energy import compute_uj
from spikebottlenet.accounting.wire import WireLedger
from spikebottlenet.bundle import Bundle
from spikebottlenet.codec.spikes import SpikeCodec
from spikebottlenet.errors import ModelMismatchError, RequestError, SpikeBottleNetError
from spikebottlenet.logs import fields
from spikebottlenet.rpc.status import code_number, status_code
from spikebottlenet.rpc.v1.coinference_pb2 import Failure, Prediction
from spikebottlenet.runtime.scores import best_classes

log = logging.getLogger(__name__)


class Received:
    """Timesteps of one image as they come, in order and without a gap."""

    def __init__(self, codec: SpikeCodec) -> None:
        self._codec = codec
        self._parts: list[Spikes] = []
        self.timesteps = 0
        self.payload_bytes = 0
        self.message_bytes = 0
        self.wire_bytes = 0

    def add(self, frame: bytes) -> None:
        """Decode a frame that carries on where the last one ended.

        Raises:
            CorruptFrameError: damaged, or not of this model.
            RequestError: not the timesteps that come next.
        """
        first, spikes = self._codec.decode_spikes(frame)
        if first != self.timesteps:
            raise RequestError(
                f"frame starts at timestep {first}, wanted {self.timesteps}: send an image's "
                "timesteps in order"
            )
        self._parts.append(spikes)
        self.timesteps += len(spikes)
        self.payload_bytes += len(frame)

    @property
    def complete(self) -> bool:
        """Whether every timestep has come."""
        return self.timesteps == self._codec.shape.timesteps

    def spikes(self) -> Spikes:
        """All so far, [t, C, H, W]."""
        return np.concatenate(self._parts)


@dataclass
class CloudTotals:
    """Sums over one process's life; wire bytes are answered images' shares by the framing model."""

    images: int = 0
    refused: int = 0
    payload_bytes: int = 0
    message_bytes: int = 0
    wire_bytes_up: int = 0
    wire_bytes_down: int = 0
    cloud_compute_uj: float = 0.0


class CloudInference:
    """Answers images with the tail; keeps this process's totals."""

    def __init__(self, bundle: Bundle, settings: CloudSettings, worker: TailWorker) -> None:
        self.bundle = bundle
        self.settings = settings
        self.codec = bundle.codec()
        self._worker = worker
        self._totals = CloudTotals()

    async def predict(
        self, received: Received, *, sequence: int, deadline_s: float | None
    ) -> Prediction:
        """Run the tail on the timesteps that have come."""
        answer = await self._worker.classify(received.spikes(), deadline_s=deadline_s)
        best = best_classes(answer.probabilities)
        macs = self.bundle.manifest.operations.tail_macs[received.timesteps - 1]
        return Prediction(
            sequence=sequence,
            classes=[score.class_index for score in best],
            probabilities=[score.probability for score in best],
            timesteps=received.timesteps,
            queue_us=answer.queue_us,
            tail_us=answer.tail_us,
            cloud_compute_uj=compute_uj(macs, 0),
        )

    def log_answer(
        self, request_id: str, received: Received, prediction: Prediction, wire_bytes_down: int
    ) -> None:
        """One line for an answered request, and its part of the totals."""
        totals = self._totals
        totals.images += 1
        totals.payload_bytes += received.payload_bytes
        totals.message_bytes += received.message_bytes
        totals.wire_bytes_up += received.wire_bytes
        totals.wire_bytes_down += wire_bytes_down
        totals.cloud_compute_uj += prediction.cloud_compute_uj
        label = self.bundle.manifest.class_names[prediction.classes[0]]
        log.info(
            "answered",
            extra=fields(
                request_id=request_id,
                label=label,
                confidence=round(prediction.probabilities[0], 4),
                timesteps=prediction.timesteps,
                enough=prediction.enough,
                payload_bytes=received.payload_bytes,
                message_bytes=received.message_bytes,
                wire_bytes_up=received.wire_bytes,
                wire_bytes_down=wire_bytes_down,
                cloud_compute_uj=round(prediction.cloud_compute_uj, 3),
                queue_ms=prediction.queue_us / 1000,
                tail_ms=prediction.tail_us / 1000,
                model=self.bundle.model,
            ),
        )

    def refuse(self, request_id: str, sequence: int, error: SpikeBottleNetError) -> Failure:
        """The failure that answers a request, logged."""
        self._totals.refused += 1
        code = status_code(error).name
        log.warning("refused", extra=fields(request_id=request_id, code=code, reason=str(error)))
        return Failure(sequence=sequence, code=code_number(error), message=str(error))

    def log_totals(self, ledger: WireLedger) -> None:
        """The totals line, wire bytes by both ways of counting."""
        log.info("totals", extra=fields(**asdict(self._totals), **ledger.reconcile()))


def check_fingerprint(bundle: Bundle, found: bytes) -> None:
    """Refuse an edge that holds another bundle.

    Raises:
        ModelMismatchError: names both fingerprints.
    """
    if found.hex() != bundle.fingerprint:
        raise ModelMismatchError(
            f"edge holds bundle {found.hex() or '(none)'}, cloud holds {bundle.fingerprint} "
            f"({bundle.manifest.name}): give both the same bundle"
        )


def gather_frames(codec: SpikeCodec, frames: Sequence[bytes]) -> Received:
    """All frames of one image, from a unary call."""
    received = Received(codec)
    for frame in frames:
        received.add(frame)
    if received.timesteps == 0:
        raise RequestError("no frame in the request, wanted at least one")
    return received
