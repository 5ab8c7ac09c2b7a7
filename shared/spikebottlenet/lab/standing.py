"""How far a training has come: all that a checkpoint keeps."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from spikebottlenet.lab.averaged import Weights
from spikebottlenet.lab.checkpoint import State
from spikebottlenet.lab.epoch_log import Line, read_log

_JUDGES = ("held_out", "chosen_on")  # how the names of such figures begin


@dataclass
class Standing:
    """Optimizers, random state, log, mean and best weights of a training; changed as it goes."""

    optimizers: list[torch.optim.Optimizer]
    generator: torch.Generator
    history: list[Line] = field(default_factory=list)
    average: Weights | None = None
    best: Weights | None = None
    finished: bool = False  # the checkpoint's weights are the chosen ones

    @property
    def epochs_done(self) -> int:
        """Whole epochs."""
        return len(self.history)

    def state(self, network: nn.Module) -> State:
        """As a checkpoint."""
        state: State = {
            "network": network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "generator": self.generator.get_state(),
            "torch_rng": torch.get_rng_state(),
            "epochs_done": self.epochs_done,
            "history": self.history,
            "finished": self.finished,
        }
        kept = {"average": self.average, "best": self.best}
        return state | {name: weights for name, weights in kept.items() if weights is not None}

    def take_up(self, state: State, network: nn.Module, log_path: Path) -> None:
        """From a checkpoint; one without a history is of an older version, and has a log."""
        network.load_state_dict(state["network"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch_rng"])
        done = state["epochs_done"]
        self.history = list(state.get("history") or read_log(log_path, done))
        self.history += [{"epoch": epoch + 1} for epoch in range(len(self.history), done)]
        self.finished = state.get("finished", False)
        device = next(network.parameters()).device
        for name in ("average", "best"):
            if name in state:
                moved = {key: value.to(device) for key, value in state[name].items()}
                setattr(self, name, moved)

    @property
    def judged_by(self) -> str:
        """The figure on held-out images that tells the best epoch; '' before the first."""
        newest = self.history[-1] if self.history else {}
        return next((name for name in reversed(newest) if name.startswith(_JUDGES)), "")

    def newest_is_best(self, by: str) -> bool:
        """Whether no epoch before the last had as high a value."""
        values = [line.get(by, float("-inf")) for line in self.history]
        return len(values) == 1 or values[-1] > max(values[:-1])

    def epochs_without_better(self, by: str) -> int:
        """Epochs since the first that had the highest value."""
        values = [line.get(by, float("-inf")) for line in self.history]
        return len(values) - 1 - values.index(max(values))
