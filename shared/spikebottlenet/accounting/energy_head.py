"""Energy of a head on one image, by part: a spiking one and an ordinary one at the same cut.

Sums over neuron layers of N neurons and over their synapses s, T timesteps, energies of
``accounting.energy_profile``. Padding is never counted. With ``a`` the accumulates that the spikes
make in s (``synapse_accumulates``), ``m`` its multiply-accumulates if it is dense, ``W`` its
weights, o, c and p the bits of an operand, an accumulator and a potential at rest:

    part              spiking head                              ordinary head
    macs              stem: m * mac                             m * mac
    accumulates       a * add
    neuron_updates    N T (multiply + 2 add)                    N (1 + identity shortcuts) add

and in bits moved (``moved_pj``), where a profile counts them:

    weights, each     a o; stem: m o                            m o
    weights, once     T W o; stem: W o                          W o
    potentials, each  a 2 c + N T (c + 2 p)                     -
    potentials, once  N T 2 p                                   -
    features, each    N T; a reader N_source T; stem: 8 m       N o; m o; identity: N o
    features, once    N T; a reader N_source T; stem: image     N o; a reader: N_source o

``each``: a spike scatters its weights into partial sums that lie in memory, and an ordinary
network's partial sum stays in a register (Lemaire et al., "An analytical estimation of spiking
neural networks energy efficiency", arXiv 2210.13107, counts so). ``once``: both keep partial sums
in registers and read weights and features once a layer; the spiking head again each timestep. The
stem's current is computed once, written once and read T times. Pixels are 8 bits. A ``membrane``
shortcut is an accumulate a neuron a timestep, fired or not; what is not binary (``sew_add``) is
multiplied, zero or not, and has the bits of its highest value.

Left out: the encoder of an ordinary head, its requantisation, control, network on chip, leakage.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spikebottlenet.accounting.energy import PJ_PER_UJ
from spikebottlenet.accounting.energy_profile import (
    FLOAT32,
    INTEGER8,
    EnergyProfile,
    Traffic,
    moved_pj,
    with_arithmetic,
)
from spikebottlenet.accounting.operations import dense_operations, reach
from spikebottlenet.errors import ConfigError
from spikebottlenet.model.architecture import (
    IMAGE,
    Architecture,
    NeuronLayer,
    Synapse,
    head_layers,
)

SpikeMap = npt.NDArray[np.float64]
_PIXEL_BITS = 8


class EnergyParts(NamedTuple):
    """An estimate by part, microjoules an image."""

    macs: float = 0.0
    accumulates: float = 0.0
    neuron_updates: float = 0.0
    weights: float = 0.0  # moved
    potentials: float = 0.0  # membrane potentials and partial sums moved
    features: float = 0.0  # spikes, features and pixels moved

    @property
    def total_uj(self) -> float:
        """All parts together."""
        return sum(self)


class Activity(NamedTuple):
    """What fired, a map [H, W] a neuron layer: spikes of an image over channels and timesteps."""

    maps: tuple[SpikeMap, ...]


class HeadEnergy(NamedTuple):
    """A spiking head beside its two rivals, all by one way of counting traffic."""

    profile: str
    spiking: EnergyParts
    ordinary_float32: EnergyParts
    ordinary_int8: EnergyParts

    @property
    def ratio_float32(self) -> float:
        """How many times the spiking head's energy an ordinary float32 head takes."""
        return self.ordinary_float32.total_uj / self.spiking.total_uj

    @property
    def ratio_int8(self) -> float:
        """How many times the spiking head's energy an ordinary 8-bit head takes."""
        return self.ordinary_int8.total_uj / self.spiking.total_uj


def activity_at(architecture: Architecture, rates: Sequence[float]) -> Activity:
    """Activity at these firing rates (spikes a site a timestep), one a neuron layer.

    Raises:
        ConfigError: another number of rates than layers.
    """
    layers = head_layers(architecture)
    if len(rates) != len(layers):
        raise ConfigError(
            f"found {len(rates)} firing rates, the head has {len(layers)} neuron layers: "
            "give one each"
        )
    return Activity(
        tuple(
            np.full((layer.side, layer.side), rate * layer.channels * architecture.timesteps)
            for layer, rate in zip(layers, rates, strict=True)
        )
    )


def synapse_accumulates(synapse: Synapse, spikes: SpikeMap) -> float:
    """Accumulates that spikes [H, W] of the source layer make through one synapse group."""
    sites = reach(synapse)
    channels_each = 1 if synapse.convolution is None else synapse.outputs // synapse.groups
    return float((sites * spikes).sum()) * channels_each


def spiking_head(
    architecture: Architecture, activity: Activity, profile: EnergyProfile
) -> EnergyParts:
    """The spiking head, bottleneck included."""
    layers = head_layers(architecture)
    parts = [_spiking_layer(layer, layers, architecture, activity, profile) for layer in layers]
    return _together(parts)


def ordinary_head(architecture: Architecture, profile: EnergyProfile) -> EnergyParts:
    """The same layers of the un-cut network, bottleneck left out."""
    layers = head_layers(architecture)
    parts = [_ordinary_layer(layer, layers, architecture, profile) for layer in layers[:-1]]
    return _together(parts)


def head_energy(
    architecture: Architecture, activity: Activity, profile: EnergyProfile
) -> HeadEnergy:
    """The spiking head by ``profile``, and ordinary heads in float32 and 8-bit beside it."""
    return HeadEnergy(
        profile.name,
        spiking_head(architecture, activity, profile),
        ordinary_head(architecture, with_arithmetic(profile, FLOAT32)),
        ordinary_head(architecture, with_arithmetic(profile, INTEGER8)),
    )


def _spiking_layer(
    layer: NeuronLayer,
    layers: Sequence[NeuronLayer],
    architecture: Architecture,
    activity: Activity,
    profile: EnergyProfile,
) -> EnergyParts:
    unit, stem, steps = profile.arithmetic, profile.spiking_stem, architecture.timesteps
    frames = architecture.frames
    each = profile.traffic is Traffic.EACH
    neurons = _neurons(layer)
    macs = accumulates = weights = scattered = current = 0.0
    sent = _sites(layer) * layer.levels.bit_length()
    features = moved_pj(sent * steps, held_bits=sent, passes=steps)
    for synapse in layer.synapses:
        held = _weights(synapse)
        if synapse.source == IMAGE:
            dense = dense_operations(synapse) * frames
            macs += dense * stem.mac_pj
            bits = (dense if each else held * frames) * stem.operand_bits
            weights += moved_pj(bits, held_bits=held * stem.operand_bits, passes=frames)
            frame = _frame_bits(architecture)
            seen = dense * _PIXEL_BITS if each else frame * frames
            features += moved_pj(seen, held_bits=frame, passes=frames)
            kept = neurons * stem.accumulator_bits  # written once a frame, read at every timestep
            moves = frames + steps
            current += moved_pj(kept * moves, held_bits=kept, passes=moves)
            continue
        if synapse.membrane:  # a current handed on, fired or not
            accumulates += neurons * steps * unit.add_pj
            scattered += neurons * steps
            kept = neurons * unit.accumulator_bits
            current += moved_pj(kept * steps, held_bits=kept, passes=steps)
            continue
        source = layers[synapse.source]
        if source.levels > 1:  # not binary: multiplied, zero or not
            found = float(dense_operations(synapse) * steps)
            macs += found * unit.mac_pj
        else:
            found = synapse_accumulates(synapse, activity.maps[synapse.source])
            accumulates += found * unit.add_pj
        scattered += found
        read = _sites(source) * source.levels.bit_length()
        features += moved_pj(read * steps, held_bits=read, passes=steps)
        if held:
            moved = (found if each else held * steps) * unit.operand_bits
            weights += moved_pj(moved, held_bits=held * unit.operand_bits, passes=steps)
    updates = neurons * steps * (unit.multiply_pj + 2 * unit.add_pj)
    at_rest = 2.0 * neurons * steps * unit.state_bits
    if each:
        sums = (2 * scattered + neurons * steps) * unit.accumulator_bits
        held_bits = neurons * (unit.accumulator_bits + unit.state_bits)
        potentials = moved_pj(sums + at_rest, held_bits=held_bits, passes=2 * steps)
    else:
        potentials = moved_pj(at_rest, held_bits=neurons * unit.state_bits, passes=2 * steps)
    if profile.traffic is Traffic.NONE:
        return _parts(macs, accumulates)
    return _parts(macs, accumulates, updates, weights, potentials + current, features)


def _ordinary_layer(
    layer: NeuronLayer,
    layers: Sequence[NeuronLayer],
    architecture: Architecture,
    profile: EnergyProfile,
) -> EnergyParts:
    unit, each = profile.arithmetic, profile.traffic is Traffic.EACH
    made = _sites(layer) * unit.operand_bits
    macs = weights = 0.0
    updates = _neurons(layer) * unit.add_pj  # ReLU compares
    features = moved_pj(made, held_bits=made)
    if layer.gate is not None:
        updates += _sites(layer) * unit.add_pj  # the shortcut that it stands for
        features += moved_pj(made, held_bits=made)
    for synapse in layer.synapses:
        image = synapse.source == IMAGE
        frames = architecture.frames if image else 1  # it sees them all at once
        held = _weights(synapse) * frames
        bits_each = _PIXEL_BITS if image else unit.operand_bits
        sites = 0 if image else _sites(layers[synapse.source])
        source = _frame_bits(architecture) * frames if image else sites * bits_each
        if not held:
            updates += _neurons(layer) * unit.add_pj
            features += moved_pj(source, held_bits=source)
            continue
        dense = dense_operations(synapse) * frames
        macs += dense * unit.mac_pj
        weights += moved_pj(
            (dense if each else held) * unit.operand_bits, held_bits=held * unit.operand_bits
        )
        features += moved_pj(dense * bits_each if each else source, held_bits=source)
    if profile.traffic is Traffic.NONE:
        return _parts(macs)
    return _parts(macs, 0.0, updates, weights, 0.0, features)


def _parts(*picojoules: float) -> EnergyParts:
    return EnergyParts(*(part / PJ_PER_UJ for part in picojoules))


def _together(parts: Sequence[EnergyParts]) -> EnergyParts:
    return EnergyParts(*(sum(part) for part in zip(*parts, strict=True)))


def _neurons(layer: NeuronLayer) -> int:
    return layer.channels * layer.neuron_side**2


def _sites(layer: NeuronLayer) -> int:
    """What a layer sends on, after its pooling."""
    return layer.channels * layer.side**2


def _weights(synapse: Synapse) -> int:
    """Weights of a synapse group; an identity has none."""
    if synapse.convolution is None:
        return 0
    return synapse.outputs * synapse.inputs * synapse.kernel**2 // synapse.groups


def _frame_bits(architecture: Architecture) -> int:
    return architecture.inputs * architecture.side**2 * _PIXEL_BITS
