"""A running mean of a network's weights and norms, for evaluation.

    W <- decay * W + (1 - decay) * w

Source: Polyak and Juditsky, SIAM Journal on Control and Optimization 30(4), 1992, there with equal
shares. The decay grows with the steps taken, (1 + n) / (10 + n), until it is the wanted one.
"""

import torch
from torch import nn

Weights = dict[str, torch.Tensor]


def copied(network: nn.Module) -> Weights:
    """Its weights as they are now."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


@torch.no_grad()
def follow(average: Weights, network: nn.Module, *, decay: float, step: int) -> None:
    """Let the mean take one step towards the network; counters are taken over."""
    share = 1.0 - min(decay, (1 + step) / (10 + step))
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, share)
        else:
            average[name].copy_(value)
