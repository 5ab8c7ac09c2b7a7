"""One folder, one training: its config kept, one process at a time, and an un-cut network lent."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spikebottlenet.config import read_yaml
from spikebottlenet.durable_folder import InUseError, exclusive
from spikebottlenet.errors import ConfigError
from spikebottlenet.lab.checkpoint import load_checkpoint, replace_file
from spikebottlenet.lab.compose import ConfigSource
from spikebottlenet.lab.config import TrainingConfig
from spikebottlenet.lab.data import ImageSplit
from spikebottlenet.lab.disk import writing
from spikebottlenet.lab.workers import Workers

CONFIG = "config.yaml"
_LOCK = ".lock"
_DATA = "data.sha256"  # of the training split's images, labels and classes
_UNCUT = "uncut.pt"
_UNCUT_PARTS = {"seed", "data", "network", "uncut", "precision"}


@contextmanager
def claimed(out: Path, source: ConfigSource, among: Workers) -> Iterator[None]:
    """Keep a training folder for one config, and for one training at a time.

    Raises:
        ConfigError: the folder holds a training by another config, or one that still runs.
        StoreError: nothing can be written there.
    """
    if not among.first:
        yield
        return
    with writing("checkpoints", out):
        out.mkdir(parents=True, exist_ok=True)
    try:
        with exclusive(out / _LOCK):
            kept = out / CONFIG
            if not kept.exists() or not _begun(out):
                replace_file(kept, source.text.encode())
            elif differing := _differing(kept, source):
                raise ConfigError(
                    f"{out} holds a training by another config than {source.path} (see {kept}; "
                    f"{', '.join(differing)} differ): give another --out, or that config"
                )
            yield
    except InUseError as error:
        raise ConfigError(
            f"another process trains in {out}: wait for its end, or give another --out"
        ) from error


def claim_data(out: Path, split: ImageSplit, lender: Path | None, among: Workers) -> None:
    """Keep a training folder for the images that it was begun with.

    ``split`` is the whole training split. A folder of an older version takes these.

    Raises:
        ConfigError: the folder, or the one that lends its un-cut network, was trained on others.
    """
    if not among.first:
        return
    said = hashlib.sha256(json.dumps(split.class_names).encode())
    said.update(split.labels.tobytes())
    if split.digests is not None:
        said.update(split.digests.tobytes())
    found = said.hexdigest().encode()
    these = f"({len(split)}, in {len(split.class_names)} classes)"
    if _begun(out) and _other_data(out, found):
        raise ConfigError(
            f"{out} was trained on other images than these {these}: give another --out, or those "
            "images"
        )
    if lender is not None and _other_data(lender, found):
        raise ConfigError(
            f"the un-cut network in {lender} was trained on other images than these {these}: give "
            "those images, or train an un-cut network on these"
        )
    replace_file(out / _DATA, found)


def _begun(out: Path) -> bool:
    """Whether anything was trained there; else a first try was refused, or killed before."""
    return any(out.glob("*.pt"))


def _other_data(folder: Path, found: bytes) -> bool:
    kept = folder / _DATA
    return kept.exists() and kept.read_bytes() != found


def _differing(kept: Path, source: ConfigSource) -> list[str]:
    """Settings that two configs say differently, as ``cut.batch``; none if they mean the same."""
    try:
        theirs = TrainingConfig.parse(read_yaml(kept), source=str(kept)).model_dump(mode="json")
    except ConfigError:
        return ["all that this version does not know"]
    ours = source.config.model_dump(mode="json")
    found = list[str]()
    for part, mine in ours.items():
        if isinstance(mine, dict):
            found += [f"{part}.{name}" for name in mine if mine[name] != theirs[part][name]]
        elif mine != theirs[part]:
            found.append(part)
    return found


def uncut_part(config: TrainingConfig) -> dict[str, Any]:
    """The settings that make the un-cut network; what is equal in them may share one."""
    return config.model_dump(mode="json", include=_UNCUT_PARTS)


def check_lender(lender: Path, out: Path, config: TrainingConfig) -> None:
    """Refuse another run's un-cut network before anything is loaded, unless there is an own one.

    Raises:
        ConfigError: the other run has none, has not ended it, or trained it by other settings.
    """
    checkpoint = lender / _UNCUT
    if (out / _UNCUT).exists():
        return
    kept = lender / CONFIG
    if not checkpoint.exists():
        raise ConfigError(f"no un-cut network in {lender}: found no {checkpoint.name}")
    theirs = uncut_part(TrainingConfig.parse(read_yaml(kept), source=str(kept)))
    ours = uncut_part(config)
    differing = sorted(name for name in ours if ours[name] != theirs[name])
    if differing:
        raise ConfigError(
            f"the un-cut network in {lender} was trained by other settings ({differing} differ): "
            "train one by these, or take those"
        )
    state = load_checkpoint(checkpoint)
    epochs = sum(phase.epochs for phase in config.uncut.phases)
    if state is None or not (state.get("finished") or state["epochs_done"] >= epochs):
        raise ConfigError(f"the un-cut network in {lender} is not whole: train it to its end")


def take_uncut(lender: Path, out: Path) -> None:
    """Begin with another run's un-cut network, unless this one has its own."""
    log = lender / "uncut.jsonl"
    if (out / _UNCUT).exists():
        return
    if log.exists():
        shutil.copyfile(log, out / log.name)
    replace_file(out / _UNCUT, (lender / _UNCUT).read_bytes())
