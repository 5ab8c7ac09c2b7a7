"""A head on 8-bit weights in the place of a float32 one; nothing is trained.

Prior, context model, edge exit and what was measured still fit the old head: ``lab.refit`` makes
them again.
"""

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from spikebottlenet.bundle import (
    HEAD_ONNX,
    HEAD_WEIGHTS,
    Bundle,
    Manifest,
    sealed_files,
    write_manifest,
)
from spikebottlenet.errors import BundleError
from spikebottlenet.lab.onnx_head import onnx_head
from spikebottlenet.model.exact import ExactHead
from spikebottlenet.model.integer_head import IntegerHead, quantise_head, reference_head

EIGHT = 8  # bits


def requantise(bundle: Bundle, folder: Path) -> Manifest:
    """Write the bundle to ``folder`` with its head on 8-bit weights; ``measured`` is left empty.

    Raises:
        BundleError: its head is on 8-bit weights already.
        ConfigError: its leak is not one that an 8-bit head can have.
    """
    manifest = bundle.manifest
    architecture, colour = manifest.architecture, manifest.preprocess.mean_colour
    weights = load_file(bundle.path(HEAD_WEIGHTS))
    head = reference_head(architecture, weights, colour)
    if not isinstance(head, ExactHead):
        raise BundleError(f"the head in {bundle.folder} has 8-bit weights already: use it as it is")
    shutil.copytree(bundle.folder, folder)
    write_head(eight_bit(head), folder)
    files = manifest.files | sealed_files(folder, (HEAD_ONNX, HEAD_WEIGHTS))
    changed = manifest.model_copy(update={"files": files, "measured": None})
    write_manifest(folder, changed)
    return changed


def eight_bit(head: ExactHead) -> IntegerHead:
    """The same head on 8-bit weights.

    Raises:
        ConfigError: its leak is not one that an 8-bit head can have.
    """
    weights = quantise_head(head.weights, head.architecture)
    return IntegerHead(head.architecture, weights, head.mean_colour)


def write_head(head: ExactHead | IntegerHead, folder: Path) -> None:
    """Write both of a bundle's head files."""
    weights: dict[str, torch.Tensor] = {
        name: tensor.contiguous() for name, tensor in head.weights.items()
    }
    save_file(weights, folder / HEAD_WEIGHTS)
    (folder / HEAD_ONNX).write_bytes(onnx_head(head).SerializeToString())
