"""A program for two processes: the gradients of a batch, which are to be those of one process.

In float64: in float32 another order of sums lets a spike fall on the other side of its threshold.
"""

import sys
from pathlib import Path

import torch
from torch.nn import functional

from spikebottlenet.lab.shared_norm import share_norms
from spikebottlenet.lab.workers import workers
from spikebottlenet.model.architecture import Architecture
from spikebottlenet.model.neuron import LIFParams
from spikebottlenet.model.split import SplitNetwork


def gradients(out: Path) -> None:
    """Write them, with the running statistics, by name."""
    torch.manual_seed(0)
    architecture = Architecture(
        width=8, classes=3, side=16, after_stage=2, timesteps=2, channels=4, stride=2
    )
    network = SplitNetwork(architecture, LIFParams(), fused=False).double()
    images, labels = torch.randn(8, 3, 16, 16, dtype=torch.float64), torch.arange(8) % 3
    among = workers()
    if among.count > 1:
        share_norms(network)
    rows = among.share(len(labels))
    output = network(images[rows], 2)
    loss = functional.cross_entropy(output.logits, labels[rows]) + output.rates.sum()
    loss.backward()
    among.average_gradients(network)
    found = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    found |= {name: b for name, b in network.named_buffers() if b.is_floating_point()}
    found["loss"] = among.mean(loss)
    if among.first:
        torch.save(found, out)
    among.leave()


if __name__ == "__main__":
    gradients(Path(sys.argv[1]))
