"""What every baseline is measured with and on: one un-cut network, one data set, one split."""

from dataclasses import dataclass
from pathlib import Path

import torch

from spikebottlenet.bundle import Bundle, Half, open_bundle
from spikebottlenet.config import read_yaml
from spikebottlenet.errors import DataError, StoreError
from spikebottlenet.lab.checkpoint import read_checkpoint
from spikebottlenet.lab.config import TrainingConfig
from spikebottlenet.lab.data import ImageSplit, hold_out, load_split
from spikebottlenet.lab.data_classes import match_classes
from spikebottlenet.lab.data_colours import measured_colours
from spikebottlenet.lab.results import Subject
from spikebottlenet.lab.subject import subject_of
from spikebottlenet.model.architecture import Architecture
from spikebottlenet.model.exact import PixelScale
from spikebottlenet.model.uncut import UncutNetwork, uncut_network

UNCUT_WEIGHTS = "uncut.pt"  # a training's checkpoint of the un-cut network
CUT_WEIGHTS = "cut.pt"
_CHOOSING = 1000  # images that settings are chosen on where none are held out


@dataclass(frozen=True)
class Ground:
    """A run, its un-cut network and the images, all splits kept apart by what they are for."""

    run: Path
    config: TrainingConfig
    bundle: Bundle
    uncut: UncutNetwork  # in evaluation mode
    train_split: ImageSplit
    choosing: ImageSplit  # settings are chosen on these, never on ``test``
    chosen_on: str
    test: ImageSplit
    subject: Subject

    @property
    def architecture(self) -> Architecture:
        """Of the cut network."""
        return self.bundle.manifest.architecture

    @property
    def cut(self) -> int:
        """The stage before the cut, from 1."""
        return self.architecture.after_stage

    @property
    def pixels(self) -> PixelScale:
        """How networks see pixels."""
        return self.config.data.scale


def open_ground(
    run: Path, *, data: str | None, split: str = "test", limit: int = 0, threads: int = 1
) -> Ground:
    """Open the folder of a finished training, as ``spikebottlenet train`` leaves it.

    Raises:
        DataError: the folder has no un-cut network or no bundle, or the data cannot be loaded.
    """
    torch.set_num_threads(threads)
    if not (run / UNCUT_WEIGHTS).is_file():
        raise DataError(
            f"no {UNCUT_WEIGHTS} in {run}, and baselines run the un-cut network, which no bundle "
            "holds: give the folder of a finished `spikebottlenet train ... --out FOLDER`"
        )
    path = run / "config.yaml"
    config = TrainingConfig.parse(read_yaml(path), source=str(path))
    bundle = open_bundle(run / "bundle", Half.LAB)
    name = data or config.data.name
    settings = measured_colours(config.data, name)
    config = config.model_copy(update={"data": settings})
    preprocess = bundle.manifest.preprocess
    classes = bundle.manifest.class_names
    whole = match_classes(load_split(name, "train", preprocess, settings), classes)
    train_split, held_out = hold_out(whole, config.data.held_out, seed=config.data.seed)
    test = match_classes(load_split(name, split, preprocess, settings), classes)
    test = test.sample(limit) if limit else test
    measured = bundle.manifest.measured
    told = measured.data if measured else config.data.name or Path(name).name
    subject = subject_of(bundle, data=told, split=split, images=len(test))
    return Ground(
        run=run,
        config=config,
        bundle=bundle,
        uncut=load_uncut(run / UNCUT_WEIGHTS, bundle.manifest.architecture),
        train_split=train_split,
        choosing=held_out if len(held_out) else train_split.sample(_CHOOSING),
        chosen_on="held-out images" if len(held_out) else "training images, as none are held out",
        test=test,
        subject=subject,
    )


def load_uncut(path: Path, architecture: Architecture) -> UncutNetwork:
    """The un-cut network of a checkpoint, in evaluation mode.

    Raises:
        DataError: the checkpoint is damaged or of another network.
    """
    network = uncut_network(architecture)
    network.load_state_dict(network_state(path))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its types
    return network.eval().requires_grad_(False)


def network_state(path: Path) -> dict[str, torch.Tensor]:
    """The weights in a training's checkpoint.

    Raises:
        DataError: it cannot be read.
    """
    try:
        state = read_checkpoint(path)["network"]  # never the one before in its place
    except (OSError, StoreError) as error:
        raise DataError(
            f"{path} is not a checkpoint that can be read ({error}): train again"
        ) from error
    return dict(state)
