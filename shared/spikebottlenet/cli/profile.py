"""``spikebottlenet profile``: this machine measured, for ``spikebottlenet plan``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from spikebottlenet.cli.extras import needing_extra
from spikebottlenet.cli.table import print_table
from spikebottlenet.errors import ConfigError


class Sides(StrEnum):
    """Which part of a network this machine runs."""

    EDGE = "edge"
    CLOUD = "cloud"
    BOTH = "both"


def profile(
    bundle: Annotated[str, typer.Option(help="a bundle's folder, or 'default'")] = "default",
    out: Annotated[Path, typer.Option(help="file to write")] = Path("profile.json"),
    part: Annotated[Sides, typer.Option(help="what this machine is to run")] = Sides.BOTH,
    threads: Annotated[
        int, typer.Option(min=0, help="of both sides; 0: edge-node's default and one a core")
    ] = 0,
    image: Annotated[
        Path | None, typer.Option(help="image file as your device takes it, to time decoding on")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="data set for the images; default: pieces of photos")
    ] = None,
    quick: Annotated[bool, typer.Option(help="few repeats: shows that it works")] = False,
) -> None:
    """Measure this machine into a profile file: what each part of each possible cut takes.

    Cuts other than the bundle's are timed with random weights. With both parts, the daemons are
    started on loopback for what they add.
    """
    with needing_extra("bench"):
        from spikebottlenet.plan.measure import Wanted, measure_profile
    from spikebottlenet.plan.profile import write_profile
    from spikebottlenet.plan.table import profile_table

    try:
        read = None if image is None else image.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {image}: {error.strerror}; give an image file") from error
    found = measure_profile(
        Wanted(
            bundle,
            data,
            read,
            "" if image is None else image.name,
            edge=part is not Sides.CLOUD,
            cloud=part is not Sides.EDGE,
            edge_threads=threads,
            cloud_threads=threads,
            quick=quick,
        )
    )
    write_profile(found, out)
    print_table(profile_table(found))
    print(f"written: {out}")
