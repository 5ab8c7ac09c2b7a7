"""From a trained split network to a bundle on disk."""

import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from spikebottlenet.accounting.operations import (
    ann_head_macs,
    dense_accumulates,
    stem_macs,
    tail_macs,
)
from spikebottlenet.bundle import (
    EXIT_WEIGHTS,
    HEAD_ONNX,
    HEAD_WEIGHTS,
    PRIOR,
    TAIL_WEIGHTS,
    Half,
    LayerOperations,
    Manifest,
    OperationCounts,
    file_digest,
    write_manifest,
)
from spikebottlenet.lab.config import TrainingConfig
from spikebottlenet.lab.data import ImageSplit
from spikebottlenet.lab.edge_exit import run_head, train_edge_exit
from spikebottlenet.lab.onnx_head import onnx_head
from spikebottlenet.model.architecture import Architecture, head_layers
from spikebottlenet.model.exact import ExactHead, fold_head
from spikebottlenet.model.split import SplitNetwork
from spikebottlenet.runtime.onnx_head import OnnxHead


def count_operations(architecture: Architecture) -> OperationCounts:
    """Operations of one image, for the manifest."""
    layers = zip(head_layers(architecture), dense_accumulates(architecture), strict=True)
    return OperationCounts(
        stem_macs=stem_macs(architecture),
        ann_head_macs=ann_head_macs(architecture),
        tail_macs=tuple(tail_macs(architecture, t + 1) for t in range(architecture.timesteps)),
        head_layers=tuple(
            LayerOperations(
                name=layer.name,
                neurons=layer.channels * layer.side**2,
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

    The prior and the edge exit come from the exact head's spikes on ``train_split``, so they fit
    what will really be sent.
    """
    folder.mkdir(parents=True, exist_ok=True)
    architecture = config.architecture(len(train_split.class_names))
    scale = config.data.scale
    head = ExactHead(architecture, fold_head(network.head, architecture, scale), scale.mean_colour)
    save_file(
        {key: value.contiguous() for key, value in head.weights.items()}, folder / HEAD_WEIGHTS
    )
    (folder / HEAD_ONNX).write_bytes(onnx_head(head).SerializeToString())
    save_file(_half_precision(network.tail.state_dict()), folder / TAIL_WEIGHTS)
    running = OnnxHead(folder / HEAD_ONNX, architecture, threads=threads)
    seen = run_head(running, train_split, architecture.spike_shape)
    np.save(folder / PRIOR, seen.prior, allow_pickle=False)
    exit_weights = train_edge_exit(
        config.edge_exit,
        seen,
        timesteps=architecture.timesteps,
        classes=architecture.classes,
        seed=config.seed,
    )
    save_file(exit_weights, folder / EXIT_WEIGHTS)
    for file in Half.LAB.value:
        (folder / file).chmod(0o644)  # safetensors writes for its owner alone
    manifest = Manifest(
        name=name,
        architecture=architecture,
        preprocess=config.data.preprocess(),
        class_names=train_split.class_names,
        operations=count_operations(architecture),
        files={file: file_digest(folder / file) for file in sorted(Half.LAB.value)},
    )
    write_manifest(folder, manifest)
    return manifest


def _half_precision(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Halve the file; the tail still computes in float32, and what is measured is this one."""
    return {
        name: value.half().contiguous()
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }


def copy_record(run: Path, config_path: Path, folder: Path) -> None:
    """Lay the training's config and logs beside the bundle."""
    shutil.copyfile(config_path, folder / "training.yaml")
    for log in sorted(run.glob("*.jsonl")):
        shutil.copyfile(log, folder / f"training-{log.name}")
