"""The processes that train one network together, as `accelerate launch` started them.

Each one makes the same batch from the same seed, takes its slice, and averages gradients (here),
statistics of the norms (``shared_norm``) and measured values with the others; so many processes
follow the same losses as one. Only the first writes. One process needs no `accelerate`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import torch
from torch import distributed, nn

from spikebottlenet.errors import ConfigError

_PATIENCE = timedelta(hours=6)  # the first may decode a large data set while the others wait


@dataclass(frozen=True)
class Workers:
    """This process among those that train together."""

    index: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this one writes."""
        return self.index == 0

    def share(self, batch: int) -> slice:
        """This process's rows of a batch.

        Raises:
            ConfigError: the batch cannot be divided.
        """
        if batch % self.count:
            raise ConfigError(
                f"found batch {batch} for {self.count} processes, wanted one that they divide: "
                f"set it to {max(batch // self.count, 1) * self.count}"
            )
        each = batch // self.count
        return slice(self.index * each, (self.index + 1) * each)

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean over all processes, without gradient."""
        total = self.total(value)
        return total / self.count if self.count > 1 else total

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, without gradient."""
        value = value.detach()
        if self.count > 1:
            value = value.clone()
            distributed.all_reduce(value)
        return value

    def any(self, number: int) -> int:
        """The greatest of all processes' numbers: what one was told, all know."""
        if self.count == 1:
            return number
        value = torch.tensor(number, device=self.device)
        distributed.all_reduce(value, op=distributed.ReduceOp.MAX)
        return int(value)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.count > 1:
            distributed.barrier()

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """Let the first process go through the block alone: it fills a cache for the others."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def leave(self) -> None:
        """End the work together; nothing is shared after it."""
        if self.count > 1:
            self.wait()
            distributed.destroy_process_group()

    def average_gradients(self, network: nn.Module) -> None:
        """Replace each gradient by its mean over all processes, in one message."""
        if self.count == 1:
            return
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        flat = self.mean(torch.cat([grad.flatten() for grad in grads]))
        for grad, mean in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            grad.copy_(mean.view(grad.shape))


ALONE = Workers(0, 1, torch.device("cpu"))


@cache
def workers() -> Workers:
    """This process and those beside it; joins them on the first call.

    Raises:
        ConfigError: several processes without `accelerate`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Workers(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        from accelerate import PartialState
    except ModuleNotFoundError as error:
        raise ConfigError(
            "found several processes without accelerate: pip install 'spikebottlenet[lab]'"
        ) from error
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)
    return Workers(state.process_index, state.num_processes, state.device)
