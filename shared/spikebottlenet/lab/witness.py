"""What an evaluation saw, summed over images: layers' spikes, prefixes of timesteps, mistakes."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from spikebottlenet.codec.spikes import SpikeCodec
from spikebottlenet.lab.results import LayerRate, Prefix
from spikebottlenet.model.architecture import Architecture, head_layers
from spikebottlenet.runtime.edge_exit import EdgeExit
from spikebottlenet.runtime.onnx_head import HeadResult

_TOP5 = 5
Labels = npt.NDArray[np.int64]


class Tail(Protocol):
    """What turns spikes [t, B, C, H, W] into probabilities [B, classes]."""

    def classify(self, spikes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Classify the first t timesteps."""


@dataclass
class Witness:
    """Sums over the images of one evaluation; a report's details are made of them."""

    architecture: Architecture
    images: int = 0
    macs: int = 0
    accumulates: int = 0
    layer_spikes: list[float] = field(default_factory=list)  # spikes a site a timestep, summed
    prefix_hits: list[int] = field(default_factory=list)  # for 1 .. T timesteps
    prefix_bytes: list[int] = field(default_factory=list)
    exit_top5_hits: int = 0  # of the edge exit
    exit_macs: int = 0  # of one image
    confusion: dict[tuple[int, int], int] = field(default_factory=dict)

    def see(
        self,
        labels: Labels,
        result: HeadResult,
        answers: Labels,
        codec: SpikeCodec,
        tail: Tail,
        edge_exit: EdgeExit,
    ) -> None:
        """Count one batch; ``answers`` are of all timesteps."""
        timesteps = self.architecture.timesteps
        layers = head_layers(self.architecture)
        if not self.images:
            self.layer_spikes = [0.0] * len(layers)
            self.prefix_hits, self.prefix_bytes = [0] * timesteps, [0] * timesteps
        self.images += len(labels)
        self.macs += result.macs * len(labels)
        self.accumulates += int(result.accumulates.sum())
        for index, (layer, fired) in enumerate(zip(layers, result.activity, strict=True)):
            sites = layer.channels * fired[0].size * timesteps
            self.layer_spikes[index] += float(fired.sum(dtype=np.float64)) / sites
        for count in range(1, timesteps + 1):
            first = result.spikes[:count]
            found = tail.classify(first).argmax(axis=1) if count < timesteps else answers
            self.prefix_hits[count - 1] += int((found == labels).sum())
            self.prefix_bytes[count - 1] += sum(
                len(codec.encode_spikes(np.ascontiguousarray(first[:, image])))
                for image in range(len(labels))
            )
        best = np.argsort(-edge_exit.classify(result.spikes), axis=1, kind="stable")[:, :_TOP5]
        self.exit_top5_hits += int((best == labels[:, None]).sum())
        self.exit_macs = edge_exit.hidden_weight.size + edge_exit.out_weight.size
        count_mistakes(self.confusion, labels, answers)

    def firing_rates(self) -> tuple[LayerRate, ...]:
        """Mean firing rate of each neuron layer."""
        layers = zip(head_layers(self.architecture), self.layer_spikes, strict=True)
        return tuple(
            LayerRate(layer=layer.name, rate=round(spikes / self.images, 5))
            for layer, spikes in layers
        )

    def by_timesteps(self) -> tuple[Prefix, ...]:
        """Accuracy and bytes of each prefix."""
        sums = zip(self.prefix_hits, self.prefix_bytes, strict=True)
        return tuple(
            Prefix(
                timesteps=index + 1,
                top1=round(100.0 * hits / self.images, 3),
                payload_bytes_mean=round(total / self.images, 3),
            )
            for index, (hits, total) in enumerate(sums)
        )


def count_mistakes(into: dict[tuple[int, int], int], labels: Labels, answers: Labels) -> None:
    """Add a batch's wrong answers to counts by (true class, answer)."""
    for label, answer in zip(labels.tolist(), answers.tolist(), strict=True):
        if label != answer:
            into[label, answer] = into.get((label, answer), 0) + 1


def mistakes(counts: dict[tuple[int, int], int]) -> tuple[tuple[int, int, int], ...]:
    """The counts as results keep them, in order."""
    return tuple((label, answer, count) for (label, answer), count in sorted(counts.items()))
