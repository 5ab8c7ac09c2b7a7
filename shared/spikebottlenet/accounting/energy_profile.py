"""Technology profiles: what an operation and a memory access cost, by name and with sources.

Operations, 45 nm, 0.9 V (Horowitz, "Computing's energy problem", ISSCC 2014, figure 1.1.9), pJ:

                  multiply    add
    float32            3.7    0.9
    float16            1.1    0.4
    8-bit integer      0.2    0.03
    32-bit integer     3.1    0.1

Memory, the same figure, pJ an access of 64 bits: 8 KiB cache 10, 32 KiB cache 20, 1 MiB cache 100,
DRAM 1,300 to 2,600 (the lower end here).

A profile is named ``horowitz45-ARITHMETIC`` (operations alone, the model of the papers), or with
``-each`` or ``-once`` behind it (memory and neuron updates too, ``accounting.energy_head``).
"""

import difflib
from enum import StrEnum
from itertools import product
from typing import NamedTuple

from spikebottlenet.errors import ConfigError

ACCESS_BITS = 64  # of one access in Horowitz's figure
DRAM_PJ = 1300.0  # an access


class Arithmetic(NamedTuple):
    """Energy of one operation, and the bits of what it works on."""

    name: str
    multiply_pj: float
    add_pj: float  # at the accumulator's width
    operand_bits: int  # of a weight, and of an ordinary network's feature
    accumulator_bits: int  # of a sum in the making
    state_bits: int  # of a membrane potential between timesteps

    @property
    def mac_pj(self) -> float:
        """A multiply-accumulate."""
        return self.multiply_pj + self.add_pj


FLOAT32 = Arithmetic("fp32", 3.7, 0.9, 32, 32, 32)
FLOAT16 = Arithmetic("fp16", 1.1, 0.4, 16, 16, 16)
# 8-bit multiply, 32-bit add: the accumulator's width counts on both sides.
INTEGER8 = Arithmetic("int8", 0.2, 0.1, 8, 32, 8)


class Cache(NamedTuple):
    """A memory on the chip."""

    holds_bytes: int
    access_pj: float  # of ACCESS_BITS


CACHES = (Cache(8 << 10, 10.0), Cache(32 << 10, 20.0), Cache(1 << 20, 100.0))  # Horowitz 2014


class Traffic(StrEnum):
    """What is moved between memory and operations; the truth lies between the last two."""

    NONE = "none"  # nothing is counted
    EACH = "each"  # every operation fetches what it works on: no reuse
    ONCE = "once"  # every datum moves once a layer and pass: perfect reuse


class EnergyProfile(NamedTuple):
    """Everything that an estimate of a head's energy rests on."""

    name: str
    arithmetic: Arithmetic
    spiking_stem: Arithmetic  # of the spiking head's first convolution
    traffic: Traffic


def _profile(arithmetic: Arithmetic, traffic: Traffic) -> EnergyProfile:
    suffix = "" if traffic is Traffic.NONE else f"-{traffic.value}"
    # An 8-bit head's stem keeps float32 weights (model.integer_head), so it is charged for them.
    stem = FLOAT32 if arithmetic is INTEGER8 else arithmetic
    return EnergyProfile(f"horowitz45-{arithmetic.name}{suffix}", arithmetic, stem, traffic)


ENERGY_PROFILES: dict[str, EnergyProfile] = {
    profile.name: profile
    for profile in (_profile(a, t) for t, a in product(Traffic, (FLOAT32, FLOAT16, INTEGER8)))
}
DEFAULT_PROFILE = ENERGY_PROFILES["horowitz45-fp32"]  # what every record is made with


def find_profile(name: str) -> EnergyProfile:
    """A profile by name.

    Raises:
        ConfigError: names the nearest known one.
    """
    if name in ENERGY_PROFILES:
        return ENERGY_PROFILES[name]
    near = difflib.get_close_matches(name, ENERGY_PROFILES, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(ENERGY_PROFILES)}"
    raise ConfigError(f"unknown energy profile {name!r}: {hint}")


def with_arithmetic(profile: EnergyProfile, arithmetic: Arithmetic) -> EnergyProfile:
    """The profile that counts the same traffic with another arithmetic."""
    return _profile(arithmetic, profile.traffic)


def moved_pj(bits: float, *, held_bits: float, passes: float = 1.0) -> float:
    """Energy to move ``bits`` in or out of the smallest memory that holds ``held_bits``.

        bits / 64 * access_pj(smallest of 8 KiB, 32 KiB, 1 MiB that holds them)

    Neighbours share an access, so the bits are what counts. What fits none lies in DRAM: it is
    fetched from there ``passes`` times into the largest cache, and read from the cache.
    """
    for cache in CACHES:
        if held_bits <= 8 * cache.holds_bytes:
            return bits / ACCESS_BITS * cache.access_pj
    cached = bits / ACCESS_BITS * CACHES[-1].access_pj
    return cached + passes * held_bits / ACCESS_BITS * DRAM_PJ
