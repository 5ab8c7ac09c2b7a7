"""A bundle's head as a NIR graph, for neuromorphic hardware and other simulators.

NIR (Pedersen et al., "Neuromorphic intermediate representation", Nature Communications 15, 2024)
states neurons in continuous time. Ours of leak a (below 1), threshold 1, become ``LIF`` nodes

    tau dv/dt = (v_leak - v) + r I,   z = 1 if v > v_threshold
    tau = dt / (1 - a),  r = tau / dt,  v_leak = 0,  v_threshold = 1

which by one step of forward Euler of dt gives u = a v + I, and neurons of leak 1 ``IF`` nodes with
r = 1 / dt. dt is snnTorch's, 0.1 ms. Norms, threshold and the pixels' deviation are folded into the
convolutions; edges into one node are summed, which is the shortcut. Input is the image [3, side,
side], pixels 0 to 255 less ``mean_colour``, the same at every timestep; or a timestep's event frame
[2, side, side].

Two things NIR does not say. Its neurons reset to ``v_reset``; ours take the threshold off (soft
reset) unless trained otherwise: the metadata ``reset`` says which, and a simulator has to be told.
Ours fire at the threshold, NIR's above it: biases are raised by less than a quarter of the smallest
step that a potential can differ by, so that no potential meets the threshold.
"""

import math
from typing import NamedTuple

import nir
import numpy as np
import numpy.typing as npt
import torch

from spikebottlenet.bundle import Bundle
from spikebottlenet.errors import ConfigError
from spikebottlenet.model.architecture import IMAGE, Architecture, NeuronLayer, head_layers
from spikebottlenet.model.exact import ExactHead, parameter_names
from spikebottlenet.model.integer_head import IntegerHead, scale_name
from spikebottlenet.model.layers import Residual
from spikebottlenet.model.weight_grid import THRESHOLD

DT_S = 1e-4  # of a timestep, seconds: what snnTorch takes for granted
_FINEST = 2.0**-23  # float32's step just above 1
_MOST_LEAK_BITS = 8
_ROUNDED = (
    "the 8-bit head rounds currents and potentials, which NIR cannot say: its spikes differ from "
    "this graph's"
)
_TOO_FINE = "potentials are too fine for float32 to be kept off the threshold: ties may not fire"

FloatArray = npt.NDArray[np.float32]


class NirHead(NamedTuple):
    """A graph, and in words what keeps its spikes from being the head's; empty: nothing known."""

    graph: nir.NIRGraph
    caveat: str


class _Layer(NamedTuple):
    weights: list[FloatArray | None]  # one a synapse
    bias: FloatArray


def nir_head(bundle: Bundle, head: ExactHead | IntegerHead) -> NirHead:
    """The graph of ``head``, which is the bundle's.

    Raises:
        ConfigError: the head has what NIR has no node for; names it.
    """
    architecture = head.architecture
    _check(architecture)
    side = architecture.side
    frame = np.array([architecture.inputs, side, side])
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input(frame)}
    edges: list[tuple[str, str]] = []
    layers = head_layers(architecture)
    currents: list[list[str]] = []  # nodes whose sum is a layer's current
    caveat = _ROUNDED if isinstance(head, IntegerHead) else ""
    for layer in layers:
        folded = _folded(layer, head)
        nudge = _nudge(layer, folded, architecture)
        if nudge < _FINEST:
            caveat = caveat or _TOO_FINE
        sources: list[str] = []
        given_bias = folded.bias + np.float32(nudge)
        for index, (synapse, weight) in enumerate(zip(layer.synapses, folded.weights, strict=True)):
            before = "input" if synapse.source == IMAGE else _key(layers[synapse.source].name)
            if weight is None:
                sources += currents[synapse.source] if synapse.membrane else [before]
                continue
            name = _key(f"{layer.name}.conv{index}")
            nodes[name] = nir.Conv2d(
                input_shape=(synapse.source_side, synapse.source_side),
                weight=weight,
                stride=synapse.stride,
                padding=synapse.kernel // 2,
                dilation=1,
                groups=synapse.groups,
                bias=given_bias if index == 0 else np.zeros_like(given_bias),
            )
            edges.append((before, name))
            sources.append(name)
        neuron = _key(layer.name)
        nodes[neuron] = _neuron(layer, architecture)
        edges += [(source, neuron) for source in sources]
        currents.append(sources)
    shape = np.array(architecture.spike_shape[1:])
    nodes["output"] = nir.Output(shape)
    edges.append((_key(layers[-1].name), "output"))
    about = {
        "model": bundle.model,
        "fingerprint": bundle.fingerprint,
        "timesteps": architecture.timesteps,
        "dt_s": DT_S,
        "reset": architecture.reset.value,
        "input": architecture.input.value,
        "mean_colour": np.array(head.mean_colour),
        "caveat": caveat or "none known",
    }
    # NIR takes a grouped convolution's inputs for its weights', so types cannot be checked then.
    grouped = any(s.groups > 1 for layer in layers for s in layer.synapses)
    return NirHead(nir.NIRGraph(nodes, edges, metadata=about, type_check=not grouped), caveat)


def _check(architecture: Architecture) -> None:
    layers = head_layers(architecture)
    if any(layer.gate is not None for layer in layers):
        raise ConfigError(
            f"residual {architecture.residual.value!r} puts spikes together by logic, NIR has no "
            f"node for it: export a head of residual {Residual.SUM.value!r} or "
            f"{Residual.MEMBRANE.value!r}"
        )
    if any(layer.pool for layer in layers):
        raise ConfigError(
            f"stem {architecture.stem.value!r} max-pools spikes, NIR has no node for it: export a "
            "head of stem 'cifar'"
        )


def _folded(layer: NeuronLayer, head: ExactHead | IntegerHead) -> _Layer:
    """Weights and bias in units of the threshold."""
    names, bias_name = parameter_names(layer)
    bias = head.weights[bias_name].double()
    weights: list[FloatArray | None] = []
    for order, name in enumerate(names):
        if name is None:
            weights.append(None)
            continue
        weight = head.weights[name].double()
        scale = head.weights.get(scale_name(name))
        if scale is not None:
            unit = scale.double() / THRESHOLD
            weight = weight * unit[:, None, None, None]
            if order == 0:
                bias = bias * unit
        weights.append(_array(weight))
    if isinstance(head, IntegerHead):
        bias = bias + 0.5 / THRESHOLD  # what quantise_head took off, so that rounding went down
    return _Layer(weights, _array(bias))


def _array(tensor: torch.Tensor) -> FloatArray:
    return tensor.float().contiguous().numpy()


def _nudge(layer: NeuronLayer, folded: _Layer, architecture: Architecture) -> float:
    """What a bias is raised by, so that the sum over timesteps stays in a quarter of a step."""
    values = [folded.bias, *(weight for weight in folded.weights if weight is not None)]
    step = min(_lowest_bit(value) for value in values)
    bits = next((b for b in range(_MOST_LEAK_BITS) if layer.leak * 2**b % 1 == 0), _MOST_LEAK_BITS)
    step *= 2.0 ** -(bits * (architecture.timesteps - 1))
    growth = sum(layer.leak**t for t in range(architecture.timesteps))
    if architecture.residual is Residual.MEMBRANE:  # each layer hands its own on
        growth *= len(head_layers(architecture))
    return step / 2.0 ** (2 + math.ceil(math.log2(growth)))


def _lowest_bit(values: FloatArray) -> float:
    """Largest power of two, 1 at most, that every value is a multiple of."""
    fraction, exponent = np.frexp(values[values != 0].astype(np.float64))
    whole = np.abs(fraction * 2.0**24).astype(np.int64)
    powers = np.log2((whole & -whole).astype(np.float64)) + exponent - 24
    return float(2.0 ** min(0.0, powers.min(initial=0.0)))


def _neuron(layer: NeuronLayer, architecture: Architecture) -> nir.NIRNode:
    shape = (layer.channels, layer.side, layer.side)
    ones, zeros = np.ones(shape, np.float32), np.zeros(shape, np.float32)
    about = {"reset": architecture.reset.value, "leak": layer.leak}
    if layer.leak == 1:
        return nir.IF(r=ones / np.float32(DT_S), v_threshold=ones, v_reset=zeros, metadata=about)
    tau = DT_S / (1 - layer.leak)
    return nir.LIF(
        tau=ones * np.float32(tau),
        r=ones * np.float32(tau / DT_S),
        v_leak=zeros,
        v_threshold=ones,
        v_reset=zeros,
        metadata=about,
    )


def _key(name: str) -> str:
    return name.replace(".", "_")  # snnTorch makes Python names of them
