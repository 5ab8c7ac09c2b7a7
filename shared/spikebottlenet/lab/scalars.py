"""Each epoch's figures for TensorBoard, where it is asked for and installed."""

from pathlib import Path
from typing import Any, Self

from spikebottlenet.errors import ConfigError
from spikebottlenet.lab.epoch_log import Line

FOLDER = "tensorboard"  # in a training's folder: `tensorboard --logdir` takes it


class Scalars:
    """Writes event files of one network's training, or nothing where it is not wanted."""

    def __init__(self, folder: Path, name: str, history: list[Line], *, wanted: bool) -> None:
        self._writer: Any = None
        if not wanted:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise ConfigError(
                "found --tensorboard without it: pip install 'spikebottlenet[tensorboard]'"
            ) from error
        # What a killed training wrote after its last checkpoint is not shown again.
        self._writer = SummaryWriter(str(folder / FOLDER / name), purge_step=len(history) + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, line: Line) -> None:
        """One epoch."""
        if self._writer is None:
            return
        for name, value in line.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, line["epoch"])
        self._writer.flush()
