"""A head on weights of 4 to 8 bits in the place of a float32 one; nothing is trained.

Prior, context model, edge exit and what was measured still fit the old head: ``lab.refit`` makes
them again.
"""

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
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
from spikebottlenet.model.weight_grid import EIGHT, FLOAT


def requantise(bundle: Bundle, folder: Path, bits: int = EIGHT) -> Manifest:
    """Write the bundle to ``folder``, its head on 4 to 8 bits; ``measured`` is empty.

    Raises:
        BundleError: its head is on integer weights already.
        ConfigError: its leak is not one that such a head can have.
    """
    manifest = bundle.manifest
    architecture, colour = manifest.architecture, manifest.preprocess.taken_off
    weights = load_file(bundle.path(HEAD_WEIGHTS))
    head = reference_head(architecture, weights, colour)
    if not isinstance(head, ExactHead):
        raise BundleError(
            f"the head in {bundle.folder} has integer weights already: use it as it is"
        )
    shutil.copytree(bundle.folder, folder)
    write_head(on_integers(head, bits), folder)
    files = manifest.files | sealed_files(folder, (HEAD_ONNX, HEAD_WEIGHTS))
    changed = manifest.model_copy(update={"files": files, "measured": None})
    write_manifest(folder, changed)
    return changed


def on_integers(head: ExactHead, bits: int) -> IntegerHead:
    """The same head on weights of 4 to 8 bits.

    Raises:
        ConfigError: its leak is not one that such a head can have.
    """
    weights = quantise_head(head.weights, head.architecture, bits)
    return IntegerHead(head.architecture, weights, head.mean_colour)


def head_bits(bundle: Bundle) -> int:
    """Bits of the head's weights, by the greatest of them; the stem's are float32 in every head."""
    graph = onnx.load_model(str(bundle.path(HEAD_ONNX)), load_external_data=False).graph
    weights = (each for each in graph.initializer if each.data_type == onnx.TensorProto.INT8)
    tops = [int(np.abs(onnx.numpy_helper.to_array(w).astype(int)).max()) for w in weights]
    return max(tops).bit_length() + 1 if tops else FLOAT


def write_head(head: ExactHead | IntegerHead, folder: Path) -> None:
    """Write both of a bundle's head files."""
    weights: dict[str, torch.Tensor] = {
        name: tensor.contiguous() for name, tensor in head.weights.items()
    }
    save_file(weights, folder / HEAD_WEIGHTS)
    (folder / HEAD_ONNX).write_bytes(onnx_head(head).SerializeToString())
