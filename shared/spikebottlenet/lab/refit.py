"""A bundle whose head changed: what is fitted to the head's spikes made again, and measured."""

import shutil
from pathlib import Path

from spikebottlenet.bundle import (
    HEAD_ONNX,
    Bundle,
    Half,
    open_bundle,
    sealed_files,
    write_manifest,
)
from spikebottlenet.config import read_yaml
from spikebottlenet.errors import ConfigError
from spikebottlenet.lab.config import TrainingConfig
from spikebottlenet.lab.data import hold_out, load_split
from spikebottlenet.lab.data_identity import images_sha256
from spikebottlenet.lab.evaluate import measure_bundle
from spikebottlenet.lab.export import TRAINING_CONFIG, bundle_files, fit_to_head
from spikebottlenet.lab.onnx_tail import CALIBRATION_IMAGES, write_onnx_tail
from spikebottlenet.lab.requantise import requantise
from spikebottlenet.runtime.onnx_head import OnnxHead


def refit_bundle(
    bundle: Bundle,
    out: Path,
    *,
    data: str | None = None,
    images: int = 0,
    head_bits: int = 0,
    only_tail: bool = False,
    threads: int,
) -> Bundle:
    """Copy a bundle to ``out`` with all that is fitted to its head's spikes made anew; measure it.

    That is prior, context model, edge exit and ``tail.onnx``; with ``only_tail`` the last alone.

    Its training config, which lies beside it, says which images are held out. ``data`` takes the
    place of the config's data set; only the first ``images`` are fitted to, where it is not 0. With
    ``head_bits`` the head is put on weights of so many bits first. The test split is looked at
    once, at the end.

    Raises:
        ConfigError: no training config, or ``out`` exists.
        DataError: the data set cannot be loaded.
    """
    source = bundle.path(TRAINING_CONFIG)
    if not source.is_file():
        raise ConfigError(f"no {TRAINING_CONFIG} in {bundle.folder}: lay the bundle's config there")
    if out.exists():
        raise ConfigError(f"{out} exists: give --out a folder that does not")
    config = TrainingConfig.parse(read_yaml(source), source=str(source))
    name = data or config.data.name
    whole = load_split(name, "train", bundle.manifest.preprocess, config.data)
    split, _ = hold_out(whole, config.data.held_out, seed=config.data.seed)
    test = load_split(name, "test", bundle.manifest.preprocess, config.data)
    making = out.with_name(f"{out.name}.unfinished")
    shutil.rmtree(making, ignore_errors=True)
    if head_bits:
        requantise(bundle, making, head_bits)
    else:
        shutil.copytree(bundle.folder, making)
    head = OnnxHead(making / HEAD_ONNX, bundle.manifest.architecture, threads=threads)
    if only_tail:
        seen = head.run(split.sample(images or CALIBRATION_IMAGES).images[:])
        write_onnx_tail(making, bundle.manifest.architecture, seen.spikes)
    else:
        fit_to_head(head, split.sample(images) if images else split, config, making)
    files = sealed_files(making, {*bundle.manifest.files, *bundle_files(making)})
    write_manifest(making, bundle.manifest.model_copy(update={"files": files, "measured": None}))
    before = bundle.manifest.measured
    # An older manifest does not say which images its figures are of.
    same = before is not None and before.images_sha256 in ("", images_sha256(test))
    measure_bundle(
        open_bundle(making, Half.LAB),
        test,
        data=config.data.name or Path(name).name,
        uncut_top1=before.uncut_top1 if before and same else None,
        threads=threads,
    )
    making.rename(out)
    return open_bundle(out, Half.LAB)
