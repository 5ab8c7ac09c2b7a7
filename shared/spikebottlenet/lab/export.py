"""From a trained split network to a bundle on disk."""

import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from spikebottlenet.accounting.operations import (
    ann_head_macs,
    dense_accumulates,
    fixed_accumulates,
    stem_macs,
    tail_macs,
)
from spikebottlenet.bundle import (
    CONTEXT,
    EXIT_WEIGHTS,
    HEAD_ONNX,
    PRIOR,
    TAIL_ONNX,
    TAIL_WEIGHTS,
    Half,
    LayerOperations,
    Manifest,
    OperationCounts,
    sealed_files,
    write_manifest,
)
from spikebottlenet.codec.context_file import write_context
from spikebottlenet.lab.config import TrainingConfig
from spikebottlenet.lab.context_fit import fit_context
from spikebottlenet.lab.data import ImageSplit
from spikebottlenet.lab.edge_exit import run_head, train_edge_exit
from spikebottlenet.lab.onnx_tail import CALIBRATION_IMAGES, write_onnx_tail
from spikebottlenet.lab.requantise import on_integers, write_head
from spikebottlenet.model.architecture import Architecture, head_layers
from spikebottlenet.model.exact import ExactHead, fold_head
from spikebottlenet.model.split import SplitNetwork
from spikebottlenet.model.weight_grid import FLOAT
from spikebottlenet.runtime.onnx_head import OnnxHead

TRAINING_CONFIG = "training.yaml"  # beside a bundle: what it was made by


def count_operations(architecture: Architecture) -> OperationCounts:
    """Operations of one image, for the manifest."""
    layers = zip(head_layers(architecture), dense_accumulates(architecture), strict=True)
    return OperationCounts(
        stem_macs=stem_macs(architecture),
        ann_head_macs=ann_head_macs(architecture),
        fixed_accumulates=fixed_accumulates(architecture),
        tail_macs=tuple(tail_macs(architecture, t + 1) for t in range(architecture.timesteps)),
        head_layers=tuple(
            LayerOperations(
                name=layer.name,
                neurons=layer.channels * layer.neuron_side**2,
                dense_accumulates=int(dense),
            )
            for layer, dense in layers
        ),
    )


def export_bundle(
    network: SplitNetwork,
    config: TrainingConfig,
    train_split: ImageSplit,
    folder: Path,
    *,
    name: str,
    threads: int,
) -> Manifest:
    """Write every file of the bundle; ``measured`` is left empty.

    Prior, context model and edge exit come from the exact head's spikes on ``train_split``, so
    they fit what will really be sent.
    """
    folder.mkdir(parents=True, exist_ok=True)
    architecture = network.head.learned(config.architecture(len(train_split.class_names)))
    scale = config.data.scale
    head = ExactHead(architecture, fold_head(network.head, architecture, scale), scale.mean_colour)
    write_head(head if config.head_bits == FLOAT else on_integers(head, config.head_bits), folder)
    save_file(_half_precision(network.tail.state_dict()), folder / TAIL_WEIGHTS)
    running = OnnxHead(folder / HEAD_ONNX, architecture, threads=threads)
    fit_to_head(running, train_split, config, folder)
    manifest = Manifest(
        name=name,
        architecture=architecture,
        preprocess=config.data.preprocess(),
        class_names=train_split.class_names,
        operations=count_operations(architecture),
        files=sealed_files(folder, bundle_files(folder)),
    )
    write_manifest(folder, manifest)
    return manifest


def fit_to_head(head: OnnxHead, split: ImageSplit, config: TrainingConfig, folder: Path) -> None:
    """Write all that is fitted to a head's spikes: prior, context model, edge exit, tail.onnx."""
    architecture = config.architecture(len(split.class_names))
    shape = architecture.spike_shape
    seen = run_head(head, split, shape)
    np.save(folder / PRIOR, seen.prior, allow_pickle=False)
    tables = fit_context(seen.packed, seen.prior, shape, seed=config.seed)
    write_context(folder / CONTEXT, tables)
    exit_weights = train_edge_exit(
        config.edge_exit,
        seen,
        timesteps=architecture.timesteps,
        classes=architecture.classes,
        seed=config.seed,
    )
    save_file(exit_weights, folder / EXIT_WEIGHTS)
    rows = np.random.default_rng(config.seed).permutation(len(seen.packed))[:CALIBRATION_IMAGES]
    spikes = np.unpackbits(seen.packed[rows], axis=1, count=shape.bits).reshape(-1, *shape)
    write_onnx_tail(folder, architecture, spikes.swapaxes(0, 1))


def bundle_files(folder: Path) -> list[str]:
    """Names of the files that a new bundle in this folder has."""
    return [*Half.LAB.value, CONTEXT, *([TAIL_ONNX] if (folder / TAIL_ONNX).exists() else [])]


def _half_precision(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Halve the file; the tail still computes in float32, and what is measured is this one."""
    return {
        name: value.half().contiguous()
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }


def copy_record(run: Path, config_path: Path, folder: Path) -> None:
    """Lay the training's config and logs beside the bundle."""
    shutil.copyfile(config_path, folder / TRAINING_CONFIG)
    for log in sorted(run.glob("*.jsonl")):
        shutil.copyfile(log, folder / f"training-{log.name}")
