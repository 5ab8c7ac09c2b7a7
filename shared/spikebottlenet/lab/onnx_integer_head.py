"""The 8-bit head as an ONNX graph; inputs and outputs are those of ``lab.onnx_head``.

Units of ``model.integer_head`` travel as bytes, channels last. Operators of the domain
com.microsoft are ONNX Runtime's own, the only ones on bytes with channels last. Each is used with
scales that are powers of two, where its float32 arithmetic is exact. In a graph of one timestep
``potential_i`` and ``next_potential_i`` are bytes [B, H, W, C]; ``resting_byte`` is 0 units.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from spikebottlenet.lab.onnx_graph import Graph
from spikebottlenet.model.architecture import IMAGE, Synapse, head_layers
from spikebottlenet.model.exact import parameter_names
from spikebottlenet.model.integer_head import LOWEST, IntegerHead, scale_name
from spikebottlenet.model.layers import POOL_KERNEL, POOL_STRIDE, Gate, Reset, Residual
from spikebottlenet.model.weight_grid import THRESHOLD

_OPSET = 18
_IR_VERSION = 8
_BYTES = "com.microsoft"
_ZERO = -LOWEST  # the byte of 0 units
_REST_ZERO = _ZERO + THRESHOLD  # the byte of 0 units after the reset


class _Neurons(Graph):
    """Nodes on bytes; a byte's meaning is given as (scale, zero): units = scale * (byte - zero)."""

    def scale(self, value: float) -> str:
        return self._once(f"scale_{value}", np.float32(value))

    def zero(self, value: int) -> str:
        return self._once(f"byte_{value}", np.uint8(value))

    def _once(self, name: str, value: object) -> str:
        if all(known.name != name for known in self.initializers):
            self.constant(name, value)
        return name

    def sum(
        self,
        left: tuple[str, float, int],
        right: tuple[str, float, int],
        meaning: tuple[float, int],
    ) -> str:
        """Sum of two tensors of bytes (name, scale, zero), rounded into bytes of ``meaning``."""
        inputs: list[str] = []
        for name, scale, zero in (left, right):
            inputs += (name, self.scale(scale), self.zero(zero))
        inputs += (self.scale(meaning[0]), self.zero(meaning[1]))
        return self.add("QLinearAdd", *inputs, domain=_BYTES)

    def at_most_one(self, source: str) -> str:
        return self.add("Min", source, self.zero(1))

    def convolution(
        self, head: IntegerHead, source: str, name: str, bias: str | None, synapse: Synapse
    ) -> str:
        """Currents of spikes [B, H, W, C]."""
        weights = self.constant(name, head.weights[name].contiguous().numpy())
        scale = self.constant(scale_name(name), head.weights[scale_name(name)].numpy())
        shape = (head.weights[name].shape[0],)
        zeros = self.constant(name + ".zero", np.zeros(shape, np.int8))
        return self.add(
            "QLinearConv",
            *(source, self.scale(1.0), self.zero(0), weights, scale, zeros),
            *(self.scale(1.0), self.zero(_ZERO)),
            *(() if bias is None else (bias,)),
            domain=_BYTES,
            channels_last=1,
            kernel_shape=[synapse.kernel] * 2,
            strides=[synapse.stride] * 2,
            pads=[synapse.kernel // 2] * 4,
            group=synapse.groups,
        )

    def stem(self, head: IntegerHead, name: str, bias: str, synapse: Synapse, frames: int) -> str:
        """Currents [frames * B, H, W, C] of the pixels, by the exact head's float32 convolution."""
        ground = np.tile(np.array(head.mean_colour, dtype=np.float32), frames)
        colour = self.constant("mean_colour", ground)
        image = self.add("Sub", self.add("Cast", "pixels", to=TensorProto.FLOAT), colour)
        image = self.add("Transpose", image, perm=[0, 3, 1, 2])
        if frames > 1:
            image = self.add("Concat", *self.split(image, frames, axis=1), axis=0)
        current = self.add(
            "Conv",
            image,
            self.constant(name, head.weights[name].contiguous().numpy()),
            bias,
            kernel_shape=[synapse.kernel] * 2,
            strides=[synapse.stride] * 2,
            pads=[synapse.kernel // 2] * 4,
        )
        units = self.add("QuantizeLinear", current, self.scale(1 / THRESHOLD), self.zero(_ZERO))
        return self.add("Transpose", units, perm=[0, 2, 3, 1])

    def fire(
        self, currents: list[str], leak: float, reset: Reset, rest: str = ""
    ) -> tuple[list[str], str]:
        """Spikes of each timestep, and the potential after them.

        The last one's potential is not written down, unless one from before, ``rest``, is given.
        """
        spikes: list[str] = []
        keeps = bool(rest)
        rest_zero = resting_byte(reset)
        for t, current in enumerate(currents):
            last = t == len(currents) - 1 and not keeps
            if rest and last:
                # 2 * (leak * rest + current) - 126 is 1 or more where rounding reaches 64.
                above = self.sum(
                    (rest, leak, rest_zero), (current, 1.0, _ZERO + THRESHOLD - 1), (0.5, 0)
                )
                spikes.append(self.at_most_one(above))
                break
            potential = current
            if rest:
                potential = self.sum((rest, leak, rest_zero), (current, 1.0, _ZERO), (1.0, _ZERO))
            above = self.sum(
                (potential, 1.0, _ZERO + THRESHOLD - 1), (self.zero(0), 1.0, 0), (1.0, 0)
            )
            spikes.append(self.at_most_one(above))
            if not last and reset is Reset.HARD:
                fired = self.add("Cast", spikes[-1], to=TensorProto.BOOL)
                rest = self.add("Where", fired, self.zero(_ZERO), potential)
            elif not last:
                # 255 - spike; read with zero 254 it is 1 where nothing fired. The potential with
                # the threshold added there has its 0 one threshold higher: that is the reset.
                silent = self.add("BitwiseNot", spikes[-1])
                rest = self.sum(
                    (potential, 1.0, _ZERO), (silent, float(THRESHOLD), 254), (1.0, _ZERO)
                )
        return spikes, rest

    def gated(self, fired: str, gate: Gate, other: str) -> str:
        """Spikes put together with those of a shortcut (``model.head.sent_on``)."""
        if gate.residual is Residual.SEW_AND:
            return self.add("Min", fired, other)
        if gate.residual is Residual.SEW_IAND:
            # 255 - spike, read with zero 255, is minus the spike; nothing is below the byte 0.
            taken = self.add("BitwiseNot", fired)
            return self.sum((other, 1.0, 0), (taken, 1.0, 255), (1.0, 0))
        return self.sum((fired, 1.0, 0), (other, 1.0, 0), (1.0, 0))

    def pooled(self, fired: str) -> str:
        """Spikes [B, H, W, C] max-pooled."""
        found = self.add(
            "MaxPool",
            self.add("Transpose", fired, perm=[0, 3, 1, 2]),
            kernel_shape=[POOL_KERNEL] * 2,
            strides=[POOL_STRIDE] * 2,
            pads=[POOL_KERNEL // 2] * 4,
        )
        return self.add("Transpose", found, perm=[0, 2, 3, 1])


def resting_byte(reset: Reset) -> int:
    """The byte of a membrane potential of 0 units between timesteps."""
    return _ZERO if reset is Reset.HARD else _REST_ZERO


def onnx_integer_head(head: IntegerHead, *, step: bool = False) -> onnx.ModelProto:
    """Build and check the graph, of all timesteps or of one."""
    architecture = head.architecture
    if step:
        architecture = architecture.model_copy(update={"timesteps": 1})
    timesteps = architecture.timesteps
    graph = _Neurons()
    first_axis = graph.constant("first_axis", np.array([0], dtype=np.int64))
    spikes: list[str] = []
    currents: list[str] = []
    inputs, outputs, next_potentials = [], [], []
    layers = head_layers(architecture)
    passed_on = {s.source for layer in layers for s in layer.synapses if s.membrane}
    for index, layer in enumerate(layers):
        names, bias_name = parameter_names(layer)
        bias = graph.constant(bias_name, head.weights[bias_name].numpy())
        current = ""
        for order, (synapse, name) in enumerate(zip(layer.synapses, names, strict=True)):
            if synapse.source == IMAGE:
                current = graph.stem(head, str(name), bias, synapse, architecture.frames)
                continue
            source = spikes[synapse.source]
            if synapse.membrane:
                meaning = (currents[synapse.source], 1.0, _ZERO)
            elif name is None:
                meaning = (source, float(THRESHOLD), 0)
            else:
                part = graph.convolution(head, source, name, bias if order == 0 else None, synapse)
                meaning = (part, 1.0, _ZERO)
            current = (
                meaning[0]
                if order == 0
                else graph.sum((current, 1.0, _ZERO), meaning, (1.0, _ZERO))
            )
        constant = layer.synapses[0].source == IMAGE and architecture.frames < timesteps
        steps = [current] * timesteps if constant else graph.split(current, timesteps)
        many = timesteps > 1
        expanded = constant and many and index in passed_on
        currents.append(graph.add("Concat", *steps, axis=0) if expanded else current)
        before = f"potential_{index}" if step else ""
        fired, after = graph.fire(steps, layer.leak, architecture.reset, before)
        if step:
            sizes = ["B", layer.neuron_side, layer.neuron_side, layer.channels]
            inputs.append(helper.make_tensor_value_info(before, TensorProto.UINT8, sizes))
            after = graph.add("Identity", after, output=f"next_{before}")
            next_potentials.append(helper.make_tensor_value_info(after, TensorProto.UINT8, sizes))
        sent = graph.add("Concat", *fired, axis=0) if many else fired[0]
        if layer.gate is not None:
            sent = graph.gated(sent, layer.gate, spikes[layer.gate.source])
        spikes.append(graph.pooled(sent) if layer.pool else sent)
        ones = graph.constant(f"ones_{index}", np.ones((layer.channels, 1), np.int8))
        shape = graph.constant(
            f"sites_{index}", np.array([timesteps, -1, layer.side, layer.side], dtype=np.int64)
        )
        counts = graph.add("Reshape", graph.add("MatMulInteger", spikes[-1], ones), shape)
        name = graph.add("ReduceSum", counts, first_axis, output=f"activity_{index}", keepdims=0)
        outputs.append(
            helper.make_tensor_value_info(name, TensorProto.INT32, ["B", layer.side, layer.side])
        )
    t, c, h, w = architecture.spike_shape
    whole = graph.constant("spikes_shape", np.array([t, -1, h, w, c], dtype=np.int64))
    last = graph.add("Reshape", spikes[-1], whole)
    graph.add("Transpose", last, output="spikes", perm=[0, 1, 4, 2, 3])
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
        opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid(_BYTES, 1)],
        ir_version=_IR_VERSION,
        producer_name="spikebottlenet",
    )
    onnx.checker.check_model(model)
    return model
