"""``context.safetensors``: the context model's tables on disk, checked before they are believed."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from spikebottlenet.codec.context_model import ContextModel
from spikebottlenet.codec.context_tables import MAX_TABLE, ContextTables, tables_shapes
from spikebottlenet.errors import BundleError
from spikebottlenet.model.shape import SpikeShape

# What safetensors and NumPy raise for headers that make no sense to them.
_UNREADABLE = (OSError, KeyError, ValueError, TypeError, AttributeError, SafetensorError)
_MAX_HEADER_BYTES = 4_096  # safetensors writes some 250 for three tensors


def max_file_bytes(shape: SpikeShape) -> int:
    """Bytes that no file of this shape goes above."""
    parts = tables_shapes(shape).values()
    held = sum(int(np.prod(size, dtype=object)) * kind.itemsize for kind, size in parts)
    return held + MAX_TABLE * 2 + _MAX_HEADER_BYTES


def read_context(path: Path, shape: SpikeShape) -> ContextModel:
    """Read the model of spikes of this shape.

    Raises:
        BundleError: it is not such a file, or its tables are not of this shape.
    """
    try:
        size, limit = path.stat().st_size, max_file_bytes(shape)
        if size > limit:
            raise ValueError(f"it has {size} bytes, wanted at most {limit}")
        tensors = load(path.read_bytes())
        names = sorted(ContextTables._fields)
        if sorted(tensors) != names:
            raise ValueError(f"it holds {sorted(tensors)}, wanted {names}")
        return ContextModel(shape, ContextTables(**tensors))
    except _UNREADABLE as error:
        raise BundleError(f"cannot load {path}: {type(error).__name__}: {error}") from error


def write_context(path: Path, tables: ContextTables) -> None:
    """Write tables that fit their shape."""
    path.write_bytes(save(tables._asdict()))
