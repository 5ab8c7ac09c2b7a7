"""A bundle's head as ONNX files for other runtimes: whole, or one timestep with its state.

Metadata of both: ``model``, ``fingerprint``, ``timesteps``, ``input``. Of one timestep:
``initial_potential``, what every ``potential_i`` is filled with before the first (0, or the byte
that means it). Feed each ``next_potential_i`` into ``potential_i`` of the next timestep. An image's
pixels stay the same; of events each timestep takes its own frame, [B, side, side, 2].
"""

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from spikebottlenet.bundle import HEAD_ONNX, Bundle
from spikebottlenet.lab.onnx_head import onnx_head
from spikebottlenet.lab.onnx_integer_head import resting_byte
from spikebottlenet.model.exact import ExactHead
from spikebottlenet.model.integer_head import IntegerHead

INITIAL_POTENTIAL = "initial_potential"


def whole_head(bundle: Bundle) -> onnx.ModelProto:
    """The bundle's own ``head.onnx``, with metadata."""
    model = onnx.load(bundle.path(HEAD_ONNX))
    helper.set_model_props(model, _about(bundle))
    return model


def step_head(bundle: Bundle, head: ExactHead | IntegerHead) -> onnx.ModelProto:
    """One timestep of ``head``, which is the bundle's, with metadata."""
    model = onnx_head(head, step=True)
    helper.set_model_props(model, _about(bundle) | {INITIAL_POTENTIAL: str(_initial(head))})
    return model


def initial_potentials(model: onnx.ModelProto, images: int) -> dict[str, npt.NDArray[np.generic]]:
    """Inputs of a graph of one timestep for its first, by name."""
    about = {entry.key: entry.value for entry in model.metadata_props}
    found: dict[str, npt.NDArray[np.generic]] = {}
    for given in model.graph.input[1:]:
        kind = given.type.tensor_type
        shape = [images, *(size.dim_value for size in kind.shape.dim[1:])]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        found[given.name] = np.full(shape, float(about[INITIAL_POTENTIAL]), dtype)
    return found


def _initial(head: ExactHead | IntegerHead) -> int:
    return resting_byte(head.architecture.reset) if isinstance(head, IntegerHead) else 0


def _about(bundle: Bundle) -> dict[str, str]:
    return {
        "model": bundle.model,
        "fingerprint": bundle.fingerprint,
        "timesteps": str(bundle.manifest.architecture.timesteps),
        "input": bundle.manifest.architecture.input.value,
    }
