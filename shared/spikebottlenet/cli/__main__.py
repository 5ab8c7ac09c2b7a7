"""The ``spikebottlenet`` command."""

import sys

import typer

from spikebottlenet.cli import (
    baselines,
    bench,
    certs,
    demo,
    energy,
    evaluate,
    export,
    health,
    model,
    plan,
    profile,
    report,
    results,
    send,
    sweep,
    tokens,
    train,
)
from spikebottlenet.errors import SpikeBottleNetError

app = typer.Typer(
    name="spikebottlenet",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="""Split computing with a spiking head: send images to an edge-node, look at models, train
    and evaluate your own.

    First time: `spikebottlenet demo` starts both daemons on this machine and sends four photos.""",
)
app.command("send")(send.send)
app.command("results")(results.results)
app.command("evaluate")(evaluate.evaluate)
app.command("energy")(energy.energy)
app.command("export")(export.export)
app.command("train")(train.train)
app.command("sweep")(sweep.sweep)
app.command("baselines")(baselines.baselines)
app.command("report")(report.report)
app.command("demo")(demo.demo)
app.command("certs")(certs.certs)
app.command("health")(health.health)
app.command("profile")(profile.profile)
app.command("plan")(plan.plan)
app.add_typer(bench.app, name="bench")
app.add_typer(tokens.app, name="token")
app.add_typer(model.app, name="model")


def main() -> None:
    """Entry point; exits 1 with one line on an error raised on purpose, 2 on wrong usage."""
    try:
        app()
    except SpikeBottleNetError as error:
        print(f"spikebottlenet: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # `spikebottlenet send --json ... | head`
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that cannot be written
        print(f"spikebottlenet: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
