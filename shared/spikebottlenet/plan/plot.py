"""The plot of a plan: each placement's figure over bandwidth, crossings of the best cut marked."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from spikebottlenet.errors import ConfigError
from spikebottlenet.plan.decision import SWEEP_BIT_S, Objective, Plan, forecast
from spikebottlenet.plan.placements import Kind, Placement
from spikebottlenet.plan.table import bit_rate

_POINTS = 120
_LABELS = {
    Objective.LATENCY: "latency, ms an image",
    Objective.ENERGY: "edge energy, uJ an image (estimate)",
    Objective.BYTES: "wire bytes an image",
}
_STYLES = {Kind.EDGE_EXIT: ":", Kind.EDGE_ONLY: "--", Kind.CUT: "-", Kind.CLOUD_ONLY: "-."}
_FORMATS = (".png", ".svg", ".pdf")


def draw_plan(plan: Plan, ways: Sequence[Placement], path: Path) -> None:
    """Write the plot, PNG, SVG or PDF by the name.

    Raises:
        ConfigError: a name with another ending.
    """
    if path.suffix not in _FORMATS:
        raise ConfigError(f"found plot {path}, wanted a name that ends in {', '.join(_FORMATS)}")
    figure = Figure(figsize=(8, 5))
    axes = figure.subplots()
    rates = np.geomspace(*SWEEP_BIT_S, _POINTS)
    for way in ways:
        figures = [
            forecast(way, plan.link.at(rate), plan.sender).of(plan.objective) for rate in rates
        ]
        axes.plot(rates, figures, _STYLES[way.kind], label=f"{way.title} ({way.status.value})")
    for crossing in plan.crossings:
        axes.axvline(crossing.bit_s, color="black", linewidth=0.8, linestyle=":")
        axes.text(
            crossing.bit_s,
            1.01,
            bit_rate(crossing.bit_s),
            fontsize="x-small",
            ha="center",
            va="bottom",
            transform=axes.get_xaxis_transform(),
        )
    axes.axvline(plan.link.up_bit_s, color="grey", linewidth=4, alpha=0.3)
    axes.set_xscale("log")
    axes.set_yscale("log" if plan.objective is not Objective.BYTES else "linear")
    axes.set_xlabel("bandwidth, bit/s (grey: this plan; dotted: the best cut changes)")
    axes.set_ylabel(_LABELS[plan.objective])
    axes.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", dpi=120)
