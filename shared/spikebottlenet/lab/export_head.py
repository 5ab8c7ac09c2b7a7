"""A bundle's head written for other tools: ONNX, ONNX of one timestep, NIR."""

import difflib
import os
import tempfile
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load_file

from spikebottlenet.bundle import HEAD_WEIGHTS, Bundle
from spikebottlenet.errors import ConfigError
from spikebottlenet.model.exact import ExactHead
from spikebottlenet.model.integer_head import IntegerHead, reference_head


class Format(StrEnum):
    """What a head is written as."""

    ONNX = "onnx"
    ONNX_STEP = "onnx-step"
    NIR = "nir"


class Exported(NamedTuple):
    """A file, and in words what it does not keep of the head; empty: nothing known."""

    path: Path
    caveat: str


def find_format(name: str) -> Format:
    """A format by name.

    Raises:
        ConfigError: names the nearest known one.
    """
    known = [each.value for each in Format]
    if name in known:
        return Format(name)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    raise ConfigError(f"unknown format {name!r}: {hint}")


def export_head(bundle: Bundle, to: Format, path: Path) -> Exported:
    """Write the head to ``path``, which must not be there yet.

    Raises:
        ConfigError: the file is there, or the head has what the format cannot say.
    """
    if path.exists():
        raise ConfigError(f"{path} is there already: remove it, or name another file")
    if to is Format.NIR:
        import nir

        from spikebottlenet.lab.nir_head import nir_head

        found = nir_head(bundle, _head(bundle))
        _write(path, lambda partial: nir.write(partial, found.graph))
        return Exported(path, found.caveat)
    from spikebottlenet.lab.onnx_step import step_head, whole_head

    model = whole_head(bundle) if to is Format.ONNX else step_head(bundle, _head(bundle))
    _write(path, lambda partial: partial.write_bytes(model.SerializeToString()))
    return Exported(path, "")


def _head(bundle: Bundle) -> ExactHead | IntegerHead:
    manifest = bundle.manifest
    weights = load_file(bundle.path(HEAD_WEIGHTS))
    return reference_head(manifest.architecture, weights, manifest.preprocess.taken_off)


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Whole or not at all, whatever the disk does."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        partial = Path(folder) / path.name
        write(partial)
        os.link(partial, path)  # fails where another was faster
