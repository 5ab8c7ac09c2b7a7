"""``spikebottlenet bench``: figures as ratios to their references, and the load generator."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from spikebottlenet.bundle import Half, bundle_folder, open_bundle
from spikebottlenet.cli.access import Ca, Cert, Insecure, Key, TokenFile, channel_security
from spikebottlenet.cli.extras import needing_extra
from spikebottlenet.errors import ConfigError, UnavailableError

app = typer.Typer(
    no_args_is_help=True,
    help="""Measure as ratios to references, all in the same run: each part by itself, or all of
    them (under 20 minutes on two cores; `make bench`).""",
)

Data = Annotated[
    str | None,
    typer.Option(help="data set, by name or folder; default: pieces of scikit-image's photos"),
]
BundleName = Annotated[str, typer.Option(help="a bundle's folder, or 'default'")]
Quick = Annotated[bool, typer.Option("--quick", help="seconds instead of minutes; a smoke test")]
Out = Annotated[Path, typer.Option(help="folder of bench.json, bench.md and plots")]


def _measure(parts: tuple[str, ...], bundle: str, data: str | None, quick: bool, out: Path) -> None:
    """Run these parts; none named are all there are."""
    with needing_extra("bench"):
        from spikebottlenet.bench.run import PARTS, Wanted, run_bench
    run_bench(Wanted(parts or tuple(PARTS), bundle, data, quick, out), Console(width=140))


@app.command("all")
def everything(
    data: Data = None,
    bundle: BundleName = "default",
    quick: Quick = False,
    out: Out = Path("build"),
) -> None:
    """Every part, into bench.json."""
    _measure((), bundle, data, quick, out)


@app.command()
def codec(
    data: Data = None,
    bundle: BundleName = "default",
    quick: Quick = False,
    out: Out = Path("build"),
) -> None:
    """Payload against the entropy, time against the head's."""
    _measure(("codec",), bundle, data, quick, out)


@app.command()
def edge(
    data: Data = None,
    bundle: BundleName = "default",
    quick: Quick = False,
    out: Out = Path("build"),
) -> None:
    """Pipeline against the bare head and torch; start and memory of edge-node."""
    _measure(("edge",), bundle, data, quick, out)


@app.command()
def cloud(
    data: Data = None,
    bundle: BundleName = "default",
    quick: Quick = False,
    out: Out = Path("build"),
) -> None:
    """Served images/s against the bare tail; latency at half that load."""
    _measure(("cloud",), bundle, data, quick, out)


@app.command()
def link(
    data: Data = None,
    bundle: BundleName = "default",
    quick: Quick = False,
    out: Out = Path("build"),
) -> None:
    """One request less its compute against a gRPC echo."""
    _measure(("link",), bundle, data, quick, out)


@app.command()
def overload(
    data: Data = None,
    bundle: BundleName = "default",
    quick: Quick = False,
    out: Out = Path("build"),
) -> None:
    """Three times what the cloud can serve."""
    _measure(("overload",), bundle, data, quick, out)


@app.command()
def peers(
    data: Data = None,
    bundle: BundleName = "default",
    quick: Quick = False,
    out: Out = Path("build"),
) -> None:
    """Against image files to LitServe and to a plain gRPC server."""
    _measure(("peers",), bundle, data, quick, out)


@app.command()
def growth(
    data: Data = None,
    bundle: BundleName = "default",
    quick: Quick = False,
    out: Out = Path("build"),
) -> None:
    """How cost grows with batch, timesteps, cut, image size and edges."""
    _measure(("growth",), bundle, data, quick, out)


@app.command()
def neuron(
    data: Data = None,
    bundle: BundleName = "default",
    quick: Quick = False,
    out: Out = Path("build"),
) -> None:
    """Training's fused neuron against a plain loop."""
    _measure(("neuron",), bundle, data, quick, out)


@app.command()
def train(
    data: Data = None,
    bundle: BundleName = "default",
    quick: Quick = False,
    out: Out = Path("build"),
) -> None:
    """A step of training against a plain one."""
    _measure(("train",), bundle, data, quick, out)


@app.command()
def load(
    address: Annotated[str, typer.Argument(help="host:port of the daemon")],
    target: Annotated[str, typer.Option(help="cloud or edge: what listens there")] = "cloud",
    rate: Annotated[
        float, typer.Option(min=0, help="requests a second, Poisson; 0: closed loop")
    ] = 50.0,
    seconds: Annotated[float, typer.Option(min=0.1, help="measured time")] = 20.0,
    warm_s: Annotated[float, typer.Option(min=0, help="seconds before, which do not count")] = 1.0,
    edges: Annotated[int, typer.Option(min=1, help="edges, each with its own connection")] = 8,
    in_flight: Annotated[int, typer.Option(min=1, help="closed loop: of each edge")] = 1,
    deadline_ms: Annotated[int, typer.Option(min=0, help="of each request; 0: none")] = 0,
    processes: Annotated[int, typer.Option(min=1, help="that play the edges")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="of the arrivals")] = 0,
    images: Annotated[
        list[str] | None,
        typer.Option(help="image files, folders or globs to send; default: pieces of photos"),
    ] = None,
    frames: Annotated[
        Path | None, typer.Option(help="folder of recorded frames (`bench record`) for a cloud")
    ] = None,
    bundle: BundleName = "default",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
) -> None:
    """Open-loop load on a running daemon: Poisson arrivals, latency from when each was due.

    Exits 1 if the generator was itself too late for its figures to be the daemon's.
    """
    if target not in ("cloud", "edge"):
        raise ConfigError(f"found --target {target}, wanted cloud or edge")
    with needing_extra("bench"):
        from spikebottlenet.bench.load.generator import run_load
        from spikebottlenet.bench.load.payloads import frames_to_send, images_to_send
        from spikebottlenet.bench.load.plan import Aim, Pace, Target
        from spikebottlenet.bench.load.report import print_load
    opened = open_bundle(bundle_folder(bundle), Half.EDGE)
    payloads = (
        frames_to_send(opened, frames, images or [])
        if target == "cloud"
        else images_to_send(opened, images or [])
    )
    aim = Aim(
        Target(target),
        address,
        payloads,
        fingerprint=bytes.fromhex(opened.fingerprint),
        deadline_ms=deadline_ms,
        security=channel_security(ca, cert, key, token_file, insecure),
    )
    pace = Pace(
        seconds=seconds,
        edges=edges,
        rate=rate,
        in_flight=in_flight,
        warm_s=warm_s,
        seed=seed,
        processes=min(processes, edges),
    )
    report = run_load(aim, pace)
    if as_json:
        plain: dict[str, Any] = report.as_json()
        print(json.dumps(plain))
    else:
        print_load(report, Console(width=120))
    if not report.valid:
        raise UnavailableError(f"this run is not valid: {report.why_not_valid}")


@app.command()
def record(
    out: Annotated[Path, typer.Argument(help="folder to write frames into")],
    images: Annotated[
        list[str] | None,
        typer.Option(help="image files, folders or globs; default: pieces of photos"),
    ] = None,
    bundle: BundleName = "default",
) -> None:
    """Run the head on images and keep their frames, for `bench load --frames`."""
    with needing_extra("bench"):
        from spikebottlenet.bench.load.payloads import frames_to_send, write_frames
    opened = open_bundle(bundle_folder(bundle), Half.EDGE)
    written = write_frames(frames_to_send(opened, None, images or []), opened, out)
    print(f"{written} frames of {opened.model} in {out}")
