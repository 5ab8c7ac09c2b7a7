"""Every query of the shipped dashboards and alerts."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

DEPLOY = Path(__file__).parent.parent / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana").glob("*.json"))
ALERTS = DEPLOY / "prometheus" / "alerts.yml"

_METRIC = re.compile(r"\b(?:(?:spikebottlenet|process)_\w+|up(?={))")


class Query(NamedTuple):
    """One of them, and where it stands."""

    where: str
    expression: str

    @property
    def metrics(self) -> set[str]:
        """Names of the series that it asks for."""
        return set(_METRIC.findall(self.expression))

    @property
    def plain(self) -> str:
        """Without Grafana's variables."""
        plain = self.expression.replace("$__rate_interval", "5m")
        return plain.replace("$instance", ".*")


def dashboard_queries(path: Path) -> Iterator[Query]:
    """What a dashboard asks Prometheus for."""
    board: dict[str, Any] = json.loads(path.read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield Query(f"{path.name}: {panel['title']}", target["expr"])
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield Query(f"{path.name}: ${variable['name']}", variable["definition"])


def alert_queries() -> Iterator[Query]:
    """What the alerts ask for."""
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield Query(rule["alert"], rule["expr"])


def all_queries() -> list[Query]:
    """Of all of them."""
    return [query for path in DASHBOARDS for query in dashboard_queries(path)] + [*alert_queries()]
