"""Energy of counted operations and of sent bytes: an estimate, by stated constants.

Compute: 45 nm, 0.9 V, 32-bit floating point: 3.7 pJ a multiply + 0.9 pJ an add = 4.6 pJ a
multiply-accumulate, 0.9 pJ an accumulate (Horowitz, "Computing's energy problem", ISSCC 2014,
figure 1.1.9). Left out: memory traffic, which dominates in hardware-aware studies, neuron updates,
and idle power. Records use this alone, the profile ``horowitz45-fp32``; others, with 8-bit rivals
and memory counted, are in ``accounting.energy_profile``.

Radio: power on the uplink P[mW] = a * rate[Mbit/s] + b while sending, then a tail in which the
radio stays up after a lone packet (Huang et al., MobiSys 2012, tables 3 and 4).
"""

from dataclasses import dataclass
from enum import StrEnum

MAC_PJ = 4.6  # float32 multiply-accumulate, 45 nm, Horowitz 2014
ACCUMULATE_PJ = 0.9  # float32 accumulate, 45 nm, Horowitz 2014
PJ_PER_UJ = 1e6
BITS_PER_BYTE = 8


def compute_uj(macs: int, accumulates: int) -> float:
    """Energy in microjoules of so many operations."""
    return (macs * MAC_PJ + accumulates * ACCUMULATE_PJ) / PJ_PER_UJ


class Radio(StrEnum):
    """Name of a radio profile."""

    NONE = "none"
    WIFI = "wifi"
    LTE = "lte"
    THREE_G = "3g"


@dataclass(frozen=True)
class RadioProfile:
    """An uplink: what a byte costs while sending, and what a lone packet's tail costs."""

    mw_per_mbit_s: float  # a
    base_mw: float  # b
    uplink_mbit_s: float  # rate assumed
    tail_j: float  # energy after a lone packet, until the radio sleeps

    @property
    def uj_per_byte(self) -> float:
        """Microjoules a byte while sending at the assumed rate."""
        power_mw = self.mw_per_mbit_s * self.uplink_mbit_s + self.base_mw
        seconds = BITS_PER_BYTE / (self.uplink_mbit_s * 1e6)
        return power_mw * 1e3 * seconds

    def send_uj(self, wire_bytes: int) -> float:
        """Energy in microjoules to send these bytes, without the tail that a burst shares."""
        return wire_bytes * self.uj_per_byte


# a, b and tail: Huang et al. 2012. Uplink rates are its measured medians, rounded.
RADIO_PROFILES: dict[Radio, RadioProfile] = {
    Radio.NONE: RadioProfile(mw_per_mbit_s=0.0, base_mw=0.0, uplink_mbit_s=1.0, tail_j=0.0),
    Radio.WIFI: RadioProfile(283.17, 132.86, uplink_mbit_s=5.0, tail_j=0.04),
    Radio.LTE: RadioProfile(438.39, 1288.04, uplink_mbit_s=5.0, tail_j=12.8),
    Radio.THREE_G: RadioProfile(868.98, 817.88, uplink_mbit_s=0.9, tail_j=7.4),
}
