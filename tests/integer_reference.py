"""A head on integer weights, written out in NumPy: what every engine is held to."""

import numpy as np

from spikebottlenet.model.architecture import IMAGE, head_layers
from spikebottlenet.model.exact import parameter_names
from spikebottlenet.model.integer_head import IntegerHead, scale_name


def sums(source: np.ndarray, weight: np.ndarray, stride: int, groups: int = 1) -> np.ndarray:
    """Convolution of [B, C, H, W], tap by tap, in the type of its inputs."""
    kernel = weight.shape[-1]
    pad = kernel // 2
    padded = np.pad(source, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    side = (source.shape[-1] - 1) // stride + 1
    total = 0
    for y in range(kernel):
        for x in range(kernel):
            part = padded[:, :, y : y + stride * side : stride, x : x + stride * side : stride][
                :, :, :side, :side
            ]
            inputs = part.reshape(len(part), groups, -1, side * side)
            taken = weight[:, :, y, x].reshape(groups, -1, weight.shape[1])
            total = total + taken @ inputs
    return np.asarray(total).reshape(len(source), -1, side, side)


def spikes_in_integers(
    head: IntegerHead, pixels: np.ndarray, whole_type: type = np.int64
) -> list[np.ndarray]:
    """What every layer sends on, [T, B, C, H, W]; the stem alone knows fractions.

    ``whole_type``: int64, or float64, whose whole numbers below 2^53 are as exact and far faster.
    """
    weights = {name: tensor.numpy() for name, tensor in head.weights.items()}
    frames = np.split(pixels, pixels.shape[-1] // len(head.mean_colour), axis=3)
    images = [(frame - np.array(head.mean_colour, float)).transpose(0, 3, 1, 2) for frame in frames]
    layers: list[np.ndarray] = []
    currents: list[list[np.ndarray]] = []
    hard = head.architecture.reset.value == "hard"
    for layer in head_layers(head.architecture):
        names, bias_name = parameter_names(layer)
        bias = weights[bias_name][:, None, None]
        rest, steps = 0.0, []
        currents.append([])
        for t in range(head.architecture.timesteps):
            current: np.ndarray | None = None
            for synapse, name in zip(layer.synapses, names, strict=True):
                if synapse.source == IMAGE:
                    image = (images * (t + 1))[t]  # the same one again, or the next frame
                    exact = sums(image, weights[name].astype(np.float64), synapse.stride) + bias
                    part = np.rint(64 * exact)
                elif synapse.membrane:
                    part = currents[synapse.source][t]
                elif name is None:
                    part = 64 * layers[synapse.source][t]
                else:
                    whole = sums(
                        layers[synapse.source][t],
                        weights[name].astype(whole_type),
                        synapse.stride,
                        synapse.groups,
                    )
                    assert whole.dtype == whole_type
                    whole = whole + (bias if current is None else 0)
                    part = np.rint(whole * weights[scale_name(name)][:, None, None])
                if name is not None:
                    part = np.clip(part, -64, 191)
                current = part if current is None else np.clip(current + part, -64, 191)
            currents[-1].append(current)
            potential = np.clip(np.rint(layer.leak * rest + current), -64, 191)
            fired = (potential >= 64).astype(whole_type)
            rest = np.where(fired == 1, 0, potential) if hard else potential - 64 * fired
            if layer.pool:
                fired = pooled(fired)
            if layer.gate is not None:
                other = layers[layer.gate.source][t]
                both = {"sew_and": fired * other, "sew_iand": (1 - fired) * other}
                fired = both.get(layer.gate.residual.value, fired + other)
            steps.append(fired)
        layers.append(np.stack(steps))
    return layers


def pooled(spikes: np.ndarray) -> np.ndarray:
    """Whether any neuron of a 3x3 window fired, every second site."""
    side = spikes.shape[-1]
    padded = np.pad(spikes, ((0, 0), (0, 0), (1, 1), (1, 1)))
    taps = [padded[:, :, y : y + side : 2, x : x + side : 2] for y in range(3) for x in range(3)]
    return np.maximum.reduce(taps)
