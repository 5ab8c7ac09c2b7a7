"""``spikebottlenet baselines``: rivals of a trained run, measured on the same images."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from spikebottlenet.cli.extras import needing_extra
from spikebottlenet.errors import ConfigError


def baselines(
    run: Annotated[Path, typer.Argument(help="folder of a finished training")],
    data: Annotated[
        str | None, typer.Option(help="local copy or other name of the config's data set")
    ] = None,
    only: Annotated[
        str,
        typer.Option(help="kinds, with commas: edge-only,features,image,whole,bottlenetpp,integer"),
    ] = "",
    channels: Annotated[
        str,
        typer.Option(
            help="of BottleNet++, with commas; 4h: half the side too; default: as many bits as the "
            "run's spikes"
        ),
    ] = "",
    qualities: Annotated[str, typer.Option(help="of image files, with commas")] = "",
    split: Annotated[str, typer.Option(help="split of the data set to measure on")] = "test",
    limit: Annotated[int, typer.Option(min=0, help="so many images, always the same; 0: all")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="threads; 0: one a core")] = 0,
) -> None:
    """Measure rivals of a run: features, BottleNet++, image files, edge-only, an 8-bit head.

    Same un-cut network, same images, same counting of bytes. Points are added to the run's
    results.json, for `spikebottlenet report`. Rivals that need training are trained by the run's
    own schedule, and go on where they were stopped.
    """
    used = threads or os.cpu_count() or 1
    with needing_extra("lab"):
        from spikebottlenet.lab.baselines.bottlenetpp import parse_symbols
        from spikebottlenet.lab.baselines.ground import open_ground
        from spikebottlenet.lab.baselines.image_files import QUALITIES
        from spikebottlenet.lab.baselines.run import Choice, parse_kinds, run_baselines
    choice = Choice(
        kinds=parse_kinds(only),
        symbols=tuple(parse_symbols(part) for part in channels.split(",") if part.strip()),
        qualities=_numbers(qualities) or QUALITIES,
        threads=used,
    )
    ground = open_ground(run, data=data, split=split, limit=limit, threads=used)
    words = ["spikebottlenet", "baselines", str(run)]
    options = {"data": data or "", "only": only, "channels": channels, "qualities": qualities}
    options |= {"split": split, "limit": str(limit) if limit else ""}
    for name, value in options.items():
        words += [f"--{name}", value] if value else []
    for point in run_baselines(ground, choice, command=shlex.join(words)):
        print(
            f"{point.method.value:>14}  {point.setting:<24}  {point.top1:6.2f} %  "
            f"{point.payload_bytes_mean:10.1f} B",
            flush=True,
        )
    print(f"written: {run / 'results.json'}")


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ConfigError(f"found qualities {text!r}, wanted numbers such as 10,50,90") from error
