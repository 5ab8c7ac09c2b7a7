"""The link between edge and cloud: how long an exchange takes on it.

    exchange_ms = 8 * up / bandwidth_up + rtt + 8 * down / bandwidth_down + expected wait for losses

Bytes are TCP payload, as everywhere in accounting: the 40 bytes of IP and TCP headers a packet are
not counted, so bandwidth is what TCP gets through.

A lost packet of a message that travels alone is sent again after 2 * rtt + 200 ms: the tail loss
probe of RFC 8985, section 7.2, with the usual largest delay of an acknowledgement. With packets
lost independently with probability p, n packets take n * p / (1 - p) such waits on average. This
moves the mean, not the median of rare losses.
"""

import math
import re
from dataclasses import dataclass

from spikebottlenet.errors import ConfigError

PACKET_BYTES = 1448  # TCP payload of an Ethernet packet with timestamps
_PROBE_MS = 200.0  # RFC 8985: the largest delay of an acknowledgement that a sender reckons with
_BITS = 8
_FASTEST_BIT_S = 1e12

_PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "m": 1e6, "G": 1e9, "g": 1e9}
_BIT_RATE_UNITS = {"bit/s": 1, "bit": 1, "bps": 1, "b/s": 1, "B/s": _BITS, "byte/s": _BITS}
_BIT_RATES = {
    f"{prefix}{unit}": factor * size
    for prefix, factor in _PREFIXES.items()
    for unit, size in _BIT_RATE_UNITS.items()
}
_DURATIONS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_QUANTITY = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z/%]*)\s*")


@dataclass(frozen=True)
class Link:
    """An established connection between edge and cloud."""

    up_bit_s: float
    down_bit_s: float
    rtt_ms: float
    loss: float = 0.0  # probability that a packet is lost, each way

    def at(self, bit_s: float) -> "Link":
        """The same link at another bandwidth up, and as much faster or slower down."""
        down = self.down_bit_s * (bit_s / self.up_bit_s)
        return Link(bit_s, down, self.rtt_ms, self.loss)

    def up_ms(self, size: float) -> float:
        """Time to put so many bytes on the uplink."""
        return 1e3 * _BITS * size / self.up_bit_s

    def exchange_ms(self, *, up_bytes: float, down_bytes: float) -> float:
        """A request of so many bytes, and its answer; nothing sent takes no time."""
        if up_bytes == 0:
            return 0.0
        down_ms = 1e3 * _BITS * down_bytes / self.down_bit_s
        return self.up_ms(up_bytes) + self.rtt_ms + down_ms + self.loss_ms(up_bytes, down_bytes)

    def loss_ms(self, up_bytes: float, down_bytes: float) -> float:
        """Expected wait for lost packets of a request and its answer."""
        packets = math.ceil(up_bytes / PACKET_BYTES) + math.ceil(down_bytes / PACKET_BYTES)
        return packets * self.loss / (1 - self.loss) * (2 * self.rtt_ms + _PROBE_MS)

    def sent_bytes(self, size: float) -> float:
        """Bytes that really go out for so many: what is lost goes again."""
        return size / (1 - self.loss)


def parse_bit_rate(text: str) -> float:
    """Bits a second of ``100kbit/s``, ``20 Mbps`` or ``1 MB/s`` (bytes).

    Raises:
        ConfigError: no number with such a unit, or no bandwidth of this world.
    """
    value = _quantity(
        text, _BIT_RATES, wanted="bandwidth with its unit, such as 100kbit/s or 2MB/s"
    )
    if not 1 <= value <= _FASTEST_BIT_S:
        raise ConfigError(f"found bandwidth {text!r}, wanted 1bit/s to 1000Gbit/s")
    return value


def parse_duration_ms(text: str) -> float:
    """Milliseconds of ``20ms``, ``0.3s`` or ``500us``; ``0`` needs no unit.

    Raises:
        ConfigError: no number with such a unit.
    """
    if text.strip() == "0":
        return 0.0
    return _quantity(text, _DURATIONS_MS, wanted="time with its unit, such as 20ms")


def parse_loss(text: str) -> float:
    """A probability from ``1%`` or ``0.01``.

    Raises:
        ConfigError: not one, or half and more: TCP does not get through there.
    """
    value = _quantity(text, {"": 1.0, "%": 0.01}, wanted="packet loss, such as 1%")
    if value >= 0.5:
        raise ConfigError(f"found loss {text!r}, wanted less than 50 %")
    return value


def _quantity(text: str, units: dict[str, float], *, wanted: str) -> float:
    found = _QUANTITY.fullmatch(text)
    factor = None if found is None else units.get(found[2])
    if found is None or factor is None:
        raise ConfigError(f"found {text!r}, wanted {wanted}")
    return float(found[1]) * factor
