"""One run of the load generator on a terminal."""

from rich.console import Console
from rich.table import Table

from spikebottlenet.bench.load.samples import PERCENTILES, LoadReport


def print_load(report: LoadReport, console: Console) -> None:
    """Rates, codes and percentiles; ``-`` where there are too few samples for a percentile."""
    table = Table("from when a request was due", *(f"p{percent:g} ms" for percent in PERCENTILES))
    for name, values in (
        ("answered with OK", report.accepted_ms),
        ("answered otherwise", report.refused_ms),
        ("sent (the generator's own lag)", report.lag_ms),
    ):
        table.add_row(
            name, *("-" if value is None else f"{value:.2f}" for value in values.values())
        )
    console.print(table)
    codes = ", ".join(f"{count} {code}" for code, count in report.codes.items()) or "none"
    images = max(1, report.answered)
    console.print(
        f"{report.requests} requests due in {report.seconds:g} s ({report.offered_rate:.1f}/s), "
        f"goodput {report.goodput:.1f}/s; {codes}; wire {report.wire_up / images:.1f} B up and "
        f"{report.wire_down / images:.1f} B down an answer; generator busy "
        f"{report.generator_cpu:.2f} cores in {report.generator_processes} process(es)",
        highlight=False,
    )
    if not report.valid:
        console.print(f"NOT VALID: {report.why_not_valid}", highlight=False)
