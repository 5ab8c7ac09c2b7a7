"""How any daemon stands at a scrape: its build, its models, its connections, who was refused."""

from collections.abc import Iterable, Iterator, Mapping

from spikebottlenet import __version__
from spikebottlenet.accounting.wire import Side, WireLedger
from spikebottlenet.bundle import Bundle
from spikebottlenet.metrics.families import Family, Gauge, ReadCounter, Reading
from spikebottlenet.rpc.server import Serving


def daemon_families(
    prefix: str, ledger: WireLedger, serving: Serving, web_refused: Mapping[int, int]
) -> list[Family]:
    """Families of a daemon whose metrics begin with ``prefix``."""

    def connections() -> Iterator[Reading]:
        sent, received = ledger.counters.sample()
        remote = ledger.counters.side is Side.REMOTE
        yield Reading(sent if remote else received, ("up",))
        yield Reading(received if remote else sent, ("down",))

    return [
        Gauge(
            f"{prefix}_build_info",
            "1, and the version that runs.",
            lambda: [Reading(1, (__version__,))],
            ("version",),
        ),
        Gauge(
            f"{prefix}_healthy",
            "1 while requests are taken, as the health service says.",
            lambda: [Reading(serving.healthy)],
        ),
        ReadCounter(
            f"{prefix}_connection_bytes",
            "TCP payload of all connections between edge and cloud as the kernel counts it, TLS "
            "and framing included; up is to the cloud. Closed connections count as last seen.",
            connections,
            ("direction",),
        ),
        ReadCounter(
            f"{prefix}_refused_calls",
            "gRPC calls that were refused at the door or cut short, by status code.",
            lambda: [Reading(count, (code,)) for code, count in serving.refused.items()],
            ("code",),
        ),
        ReadCounter(
            f"{prefix}_refused_web_requests",
            "Requests to the web port that were refused, by HTTP status.",
            lambda: [Reading(count, (str(status),)) for status, count in web_refused.items()],
            ("status",),
        ),
    ]


def model_readings(bundles: Iterable[Bundle]) -> Iterator[Reading]:
    """One of 1 for each model served, with :data:`MODEL_LABELS`."""
    for bundle in bundles:
        architecture = bundle.manifest.architecture
        yield Reading(
            1,
            (
                bundle.manifest.name,
                bundle.fingerprint,
                str(architecture.timesteps),
                str(architecture.spike_shape.bits),
            ),
        )


MODEL_LABELS = ("model", "fingerprint", "timesteps", "spike_bits")
