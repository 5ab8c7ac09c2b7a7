"""``/metrics``: a daemon's families and its process as Prometheus reads them."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from spikebottlenet.metrics.families import (
    Counter,
    Distribution,
    Family,
    Gauge,
    Histogram,
    ReadCounter,
    Reading,
)


class _Families(Collector):
    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Every family as it stands."""
        return map(_metric, self._families)


def _metric(family: Family) -> Metric:
    match family:
        case Counter():
            counted = [Reading(one.value, labels) for labels, one in family.sums.items()]
            return _counter(family, counted)
        case ReadCounter():
            return _counter(family, family.read())
        case Gauge():
            gauge = GaugeMetricFamily(family.name, family.about, labels=family.labels)
            for reading in family.read():
                gauge.add_metric(reading.labels, reading.value)
            return gauge
        case Histogram():
            found = HistogramMetricFamily(family.name, family.about, labels=family.labels)
            for labels, distribution in family.distributions.items():
                _add(found, labels, distribution)
            return found
        case _:
            found = HistogramMetricFamily(family.name, family.about)
            _add(found, (), family.distribution())
            return found


def _counter(family: Counter | ReadCounter, readings: Iterable[Reading]) -> CounterMetricFamily:
    counter = CounterMetricFamily(family.name, family.about, labels=family.labels)
    for reading in readings:
        counter.add_metric(reading.labels, reading.value)
    return counter


def _add(found: HistogramMetricFamily, labels: Sequence[str], distribution: Distribution) -> None:
    bounds = [floatToGoString(bound) for bound in (*distribution.bounds, float("inf"))]
    below = accumulate(distribution.counts)
    found.add_metric(labels, list(zip(bounds, below, strict=True)), distribution.total)


def _exposed(registry: CollectorRegistry, accept: str) -> Response:
    encode, content_type = choose_encoder(accept)
    headers = {"content-type": content_type, "cache-control": "no-store"}
    return Response(encode(registry), headers=headers)


def metrics_route(
    families: Sequence[Family], refresh: Callable[[], Awaitable[None]] | None = None
) -> Route:
    """``/metrics`` in whichever text format the scraper asks for; ``refresh`` comes before it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    ProcessCollector(registry=registry)

    async def metrics(request: Request) -> Response:
        if refresh is not None:
            await refresh()
        try:
            return _exposed(registry, request.headers.get("accept", ""))
        except (TypeError, ValueError):  # the library trips over a version that is none
            return _exposed(registry, "")

    return Route("/metrics", metrics)
