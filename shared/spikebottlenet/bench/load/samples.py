"""What was measured of each request, and what that says of all of them.

Latency counts from when a request was due, not from when it was sent: a generator that waits for a
slow server would otherwise leave out just the requests that the slowness hit (coordinated
omission; Tene, "How NOT to measure latency", 2013). Percentiles are nearest ranks of all samples.
"""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc
import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]

OK = 0
EDGE_EXIT = -2  # an edge-node answered from its own early exit: no answer of the cloud
NO_ROOM: int = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]  # refused, or held back
UNANSWERED = -1  # nothing had come when the run ended
PERCENTILES = (50.0, 90.0, 99.0, 99.9)

# A generator whose own lag is above this part of the latency it reports measures itself.
_MAX_LAG = 0.1
_TIMER_MS = 2.0  # of lag is the event loop's grain, and nothing of the machine's
_ROUNDING = 1e-6  # 99.9 is no exact binary number
_CODES = {int(code.value[0]): code.name for code in grpc.StatusCode}


class Samples(NamedTuple):
    """One row a request; seconds after the start."""

    due_s: Seconds
    sent_s: Seconds  # when the generator came to it
    done_s: Seconds  # when its answer was there
    code: npt.NDArray[np.int64]  # gRPC status code, EDGE_EXIT or UNANSWERED

    @classmethod
    def join(cls, parts: "list[Samples]") -> "Samples":
        """The samples of several processes together."""
        return cls(
            np.concatenate([part.due_s for part in parts]),
            np.concatenate([part.sent_s for part in parts]),
            np.concatenate([part.done_s for part in parts]),
            np.concatenate([part.code for part in parts]),
        )

    def between(self, start_s: float, end_s: float) -> "Samples":
        """Those due in that time."""
        chosen = (self.due_s >= start_s) & (self.due_s < end_s)
        return Samples(
            self.due_s[chosen], self.sent_s[chosen], self.done_s[chosen], self.code[chosen]
        )


@dataclass(frozen=True)
class LoadReport:
    """What a run of the generator found. Latencies in milliseconds, from when a request was due."""

    seconds: float  # measured, warm-up left out
    requests: int  # due in that time
    offered_rate: float  # due a second
    goodput: float  # answered with OK a second
    codes: dict[str, int]
    accepted_ms: dict[float, float | None]  # percentile to latency of what was answered with OK
    refused_ms: dict[float, float | None]  # of what was answered otherwise
    lag_ms: dict[float, float | None]  # from due to sent: the generator's own lateness
    generator_cpu: float  # cores that the generator kept busy
    generator_processes: int
    server_cpu_s: float | None  # of the server in the measured time, if it was watched
    wire_up: int  # TCP payload of all connections, both with their opening
    wire_down: int
    answered: int  # with OK, warm-up included: what the wire's bytes are divided by
    open_loop: bool

    @property
    def saturated(self) -> bool:
        """Whether the generator had no time left, so that it may have offered less than it says."""
        return self.generator_cpu >= 0.95 * self.generator_processes

    @property
    def valid(self) -> bool:
        """Whether the generator kept up, so that what is reported is the server's."""
        if self.saturated or not self.open_loop:
            return not self.saturated
        lag, latency = self.lag_ms[99.0], self.accepted_ms[99.0] or self.refused_ms[99.0]
        if lag is None or latency is None:
            return self.requests > 0
        return lag <= max(_TIMER_MS, _MAX_LAG * latency)

    @property
    def why_not_valid(self) -> str:
        """What to say of a run that is not."""
        return (
            f"the generator was late itself: {_shown(self.lag_ms[99.0])} at the 99th percentile, "
            f"{self.generator_cpu:.2f} cores busy in {self.generator_processes} processes: lower "
            "the rate, give it --processes or another machine"
        )

    def if_valid(self, value: float | None) -> float:
        """A figure of this run, or NaN: of a run that is not valid, or of too few samples."""
        return value if self.valid and value is not None else math.nan

    def as_bound(self, value: float | None) -> float:
        """A latency that the server's is at most: it counts from when a request was due, and so has
        the generator's own lateness in it. NaN where it had no time left, or of too few samples.
        """
        return math.nan if self.saturated or value is None else value

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader has to know of a run at a load that every request should survive."""
        said = () if self.valid else (f"not valid: {self.why_not_valid}",)
        return (*said, *self.refusals)

    @property
    def refusals(self) -> tuple[str, ...]:
        """What was not answered with OK, if there is any."""
        other = [f"{n} {code}" for code, n in self.codes.items() if code != "OK"]
        return (f"not all was answered with OK: {', '.join(other)}",) if other else ()

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "valid": self.valid,
            "seconds": round(self.seconds, 3),
            "requests": self.requests,
            "offered_rate": self.offered_rate,
            "goodput": self.goodput,
            "codes": self.codes,
            "accepted_ms": _plain(self.accepted_ms),
            "refused_ms": _plain(self.refused_ms),
            "lag_ms": _plain(self.lag_ms),
            "generator_cpu": round(self.generator_cpu, 3),
            "generator_processes": self.generator_processes,
            "server_cpu_s": self.server_cpu_s,
            "wire_bytes_up": self.wire_up,
            "wire_bytes_down": self.wire_down,
            "answered": self.answered,
            "open_loop": self.open_loop,
        }


def _shown(ms: float | None) -> str:
    return "unknown" if ms is None else f"{ms:.1f} ms"


def code_name(code: int) -> str:
    """A status code's name, or that of an outcome which is none."""
    own = {UNANSWERED: "UNANSWERED", EDGE_EXIT: "EDGE_EXIT"}
    return own.get(code) or _CODES.get(code, f"CODE_{code}")


def percentiles(seconds: Seconds) -> dict[float, float | None]:
    """Nearest ranks in milliseconds; None where there are too few samples for one to lie beyond."""
    ordered, count = np.sort(seconds), len(seconds)
    found: dict[float, float | None] = {}
    for percent in PERCENTILES:
        beyond = count * (100 - percent) / 100
        enough = beyond >= 1 - _ROUNDING or (percent == 50 and count > 0)
        rank = math.ceil(count * percent / 100 - _ROUNDING)  # from 1
        found[percent] = 1e3 * float(ordered[rank - 1]) if enough else None
    return found


def count_codes(samples: Samples) -> dict[str, int]:
    """How many requests ended with each status code, the most frequent first."""
    counts = Counter(code_name(int(code)) for code in samples.code)
    return dict(counts.most_common())


def latencies(samples: Samples, *, accepted: bool) -> Seconds:
    """Seconds from due to done of those answered with OK, or of those answered otherwise."""
    good = samples.code == OK
    chosen = good if accepted else ~good & (samples.code != UNANSWERED)
    return np.asarray(samples.done_s[chosen] - samples.due_s[chosen])


def good_rate(samples: Samples, start_s: float, end_s: float) -> float:
    """Answers with OK that came in that time, a second."""
    inside = (samples.code == OK) & (samples.done_s >= start_s) & (samples.done_s < end_s)
    return float(inside.sum()) / (end_s - start_s)


def _plain(values: dict[float, float | None]) -> dict[str, float | None]:
    return {f"p{percent:g}": value for percent, value in values.items()}
