"""The bundle of a float32 head with an 8-bit head in its place; nothing is trained.

    python -m spikebottlenet.lab.requantise BUNDLE FOLDER

Prior, edge exit and what was measured still fit the old head: fit and measure them again.
"""

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from spikebottlenet.bundle import (
    HEAD_ONNX,
    HEAD_WEIGHTS,
    Bundle,
    Half,
    Manifest,
    bundle_folder,
    file_digest,
    open_bundle,
    write_manifest,
)
from spikebottlenet.errors import BundleError, SpikeBottleNetError
from spikebottlenet.lab.onnx_head import onnx_head
from spikebottlenet.model.exact import ExactHead
from spikebottlenet.model.integer_head import IntegerHead, quantise_head, reference_head


def requantise(bundle: Bundle, folder: Path) -> Manifest:
    """Write the bundle to ``folder`` with its head on 8-bit weights; ``measured`` is left empty.

    Raises:
        BundleError: its head is on 8-bit weights already.
        ConfigError: its leak is not one that an 8-bit head can have.
    """
    manifest = bundle.manifest
    architecture, colour = manifest.architecture, manifest.preprocess.mean_colour
    weights = load_file(bundle.path(HEAD_WEIGHTS))
    if not isinstance(reference_head(architecture, weights, colour), ExactHead):
        raise BundleError(f"the head in {bundle.folder} has 8-bit weights already: use it as it is")
    head = IntegerHead(architecture, quantise_head(weights, architecture), colour)
    shutil.copytree(bundle.folder, folder)
    write_head(head, folder)
    files = manifest.files | {
        name: file_digest(folder / name) for name in (HEAD_ONNX, HEAD_WEIGHTS)
    }
    changed = manifest.model_copy(update={"files": files, "measured": None})
    write_manifest(folder, changed)
    return changed


def write_head(head: ExactHead | IntegerHead, folder: Path) -> None:
    """Write both of a bundle's head files."""
    weights: dict[str, torch.Tensor] = {
        name: tensor.contiguous() for name, tensor in head.weights.items()
    }
    save_file(weights, folder / HEAD_WEIGHTS)
    (folder / HEAD_WEIGHTS).chmod(0o644)  # safetensors writes for its owner alone
    (folder / HEAD_ONNX).write_bytes(onnx_head(head).SerializeToString())


def main(arguments: list[str]) -> None:
    """Entry point."""
    if len(arguments) != 2:
        sys.exit(__doc__)
    source, folder = bundle_folder(arguments[0]), Path(arguments[1])
    try:
        manifest = requantise(open_bundle(source, Half.LAB), folder)
    except (SpikeBottleNetError, FileExistsError) as error:
        sys.exit(f"requantise: {error}")
    print(f"{folder}: fingerprint {manifest.fingerprint}")


if __name__ == "__main__":
    main(sys.argv[1:])
