"""A bundle's head as an ONNX graph, written node by node from the layer description.

Input ``pixels`` uint8 [B, side, side, samples]: an image's red, green and blue, or darker and
brighter of the first event frame, then of the next. Outputs ``spikes`` uint8 [T, B, C, H, W] and,
for each neuron layer i, ``activity_i`` [B, H, W], what it sends on, summed over timesteps and
channels: float32 from the exact head here, int32 from the 8-bit one (``lab.onnx_integer_head``).

A graph of one timestep (``step``) has besides an input ``potential_i`` [B, C, H, W] for each layer,
its membrane potential after the timestep before, and an output ``next_potential_i``.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from spikebottlenet.lab.onnx_graph import Graph
from spikebottlenet.lab.onnx_integer_head import onnx_integer_head
from spikebottlenet.model.architecture import IMAGE, NeuronLayer, head_layers
from spikebottlenet.model.exact import ExactHead, parameter_names
from spikebottlenet.model.integer_head import IntegerHead
from spikebottlenet.model.layers import POOL_KERNEL, POOL_STRIDE, Reset, Residual

_OPSET = 17  # every runtime since 2022 reads it
_IR_VERSION = 8


def onnx_head(head: ExactHead | IntegerHead, *, step: bool = False) -> onnx.ModelProto:
    """Build and check the graph, of all timesteps or of one."""
    if isinstance(head, IntegerHead):
        return onnx_integer_head(head, step=step)
    architecture = head.architecture
    if step:
        architecture = architecture.model_copy(update={"timesteps": 1})
    graph = Graph()
    one = graph.constant("one", np.float32(1.0))
    first_axis = graph.constant("first_axis", np.array([0], dtype=np.int64))
    channel_axis = graph.constant("channel_axis", np.array([1], dtype=np.int64))
    frames = architecture.frames
    ground = np.tile(np.array(head.mean_colour, dtype=np.float32), frames)
    colour = graph.constant("mean_colour", ground)
    image = graph.add("Sub", graph.add("Cast", "pixels", to=TensorProto.FLOAT), colour)
    image = graph.add("Transpose", image, perm=[0, 3, 1, 2])
    images = [image] if frames == 1 else graph.split(image, frames, axis=1, opset=_OPSET)
    spikes: list[list[str]] = []
    every_current: list[list[str]] = []
    leaks: dict[float, str] = {}
    inputs, outputs, next_potentials = [], [], []
    for index, layer in enumerate(head_layers(architecture)):
        names, bias_name = parameter_names(layer)
        for name in (*names, bias_name):
            if name is not None:
                graph.constant(name, head.weights[name].contiguous().numpy())
        seen = frames if layer.synapses[0].source == IMAGE else architecture.timesteps
        currents: list[str] = []
        for t in range(seen):
            parts = []
            for order, (synapse, name) in enumerate(zip(layer.synapses, names, strict=True)):
                if synapse.source == IMAGE:
                    source = images[t]
                elif synapse.membrane:
                    passed = every_current[synapse.source]
                    source = passed[min(t, len(passed) - 1)]
                else:
                    source = spikes[synapse.source][t]
                if name is not None:
                    pad = synapse.kernel // 2
                    source = graph.add(
                        "Conv",
                        source,
                        name,
                        *((bias_name,) if order == 0 else ()),
                        kernel_shape=[synapse.kernel] * 2,
                        strides=[synapse.stride] * 2,
                        group=synapse.groups,
                        # Symmetric as in training, whatever the stride.
                        pads=[pad] * 4,
                    )
                parts.append(source)
            currents.append(parts[0] if len(parts) == 1 else graph.add("Add", *parts))
        every_current.append(currents)
        if layer.leak not in leaks:
            name = f"leak_{len(leaks)}" if leaks else "leak"
            leaks[layer.leak] = graph.constant(name, np.float32(layer.leak))
        leak, timesteps = leaks[layer.leak], architecture.timesteps
        before = f"potential_{index}" if step else None
        fired, after = _lif(graph, currents, timesteps, leak, one, architecture.reset, before)
        if before is not None:
            side = layer.neuron_side
            shape = ["B", layer.channels, side, side]
            inputs.append(helper.make_tensor_value_info(before, TensorProto.FLOAT, shape))
            after = graph.add("Identity", after, output=f"next_{before}")
            next_potentials.append(helper.make_tensor_value_info(after, TensorProto.FLOAT, shape))
        steps = [_sent_on(graph, layer, each, t, spikes, one) for t, each in enumerate(fired)]
        spikes.append(steps)
        total = steps[0]
        for later in steps[1:]:
            total = graph.add("Add", total, later)
        name = graph.add("ReduceSum", total, channel_axis, output=f"activity_{index}", keepdims=0)
        outputs.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", layer.side, layer.side])
        )
    parts = [graph.add("Unsqueeze", each, first_axis) for each in spikes[-1]]
    joined = graph.add("Concat", *parts, axis=0)
    graph.add("Cast", joined, output="spikes", to=TensorProto.UINT8)
    t, c, h, w = architecture.spike_shape
    outputs.insert(0, helper.make_tensor_value_info("spikes", TensorProto.UINT8, [t, "B", c, h, w]))
    pixels = helper.make_tensor_value_info(
        "pixels",
        TensorProto.UINT8,
        ["B", architecture.side, architecture.side, architecture.samples],
    )
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "spiking_head",
            [pixels, *inputs],
            [*outputs, *next_potentials],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="spikebottlenet",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _lif(
    graph: Graph,
    currents: list[str],
    timesteps: int,
    leak: str,
    one: str,
    reset: Reset,
    potential: str | None,
) -> tuple[list[str], str]:
    """Spikes of each timestep, by the equations of ``model.neuron`` with threshold 1.

    ``potential`` is the one before, None for 0; the one after the last timestep is returned too.
    """
    spikes: list[str] = []
    for t in range(timesteps):
        current = currents[min(t, len(currents) - 1)]
        if potential is None:
            potential = current
        else:
            potential = graph.add("Add", graph.add("Mul", potential, leak), current)
        fired = graph.add("GreaterOrEqual", potential, one)
        spikes.append(graph.add("Cast", fired, to=TensorProto.FLOAT))
        taken = spikes[-1]
        if reset is Reset.HARD:
            taken = graph.add("Mul", potential, taken)
        potential = graph.add("Sub", potential, taken)
    return spikes, str(potential)


def _sent_on(
    graph: Graph, layer: NeuronLayer, fired: str, t: int, spikes: list[list[str]], one: str
) -> str:
    """What a layer sends on at timestep t (``model.head.sent_on``)."""
    if layer.gate is not None:
        other = spikes[layer.gate.source][t]
        if layer.gate.residual is Residual.SEW_ADD:
            return graph.add("Add", fired, other)
        if layer.gate.residual is Residual.SEW_IAND:
            fired = graph.add("Sub", one, fired)
        return graph.add("Mul", fired, other)
    if layer.pool:
        return graph.add(
            "MaxPool",
            fired,
            kernel_shape=[POOL_KERNEL] * 2,
            strides=[POOL_STRIDE] * 2,
            pads=[POOL_KERNEL // 2] * 4,
        )
    return fired
