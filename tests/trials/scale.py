"""``make scale``: an unchanged edge before a cloud under Ray Serve, and what that costs.

Each part sends the same images over one edge-node. ``killed`` kills one of two replicas (SIGKILL)
once half of the images are answered; the trial fails if one image is lost anywhere.
"""

import argparse
import importlib.metadata
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from skimage import data

from spikebottlenet.bench.machine import machine_facts
from spikebottlenet.cli.daemons import Daemon
from tests.crops import crop_photos, write_crops
from tests.trials.ray_cloud import RAY, Run, edge_before, edge_of_ray, nothing, replicas, send

REPORT = Path("build/scale.json")
IMAGES = 500
WARMUP = 32


@dataclass(frozen=True)
class Part:
    """One cloud that the images are sent to."""

    module: str
    options: tuple[str, ...]
    words: str
    kill: bool = False


def ray(count: int, *, kill: bool = False) -> Part:
    words = f"Ray Serve, {count} replica{'s' if count > 1 else ''} of 1 thread"
    options = ("--replicas", str(count), "--threads", "1")
    return Part(RAY, options, words + (", one killed half-way" if kill else ""), kill)


PARTS = {
    "plain-1": Part("cloud_node", ("--threads", "1"), "cloud-node, 1 thread"),
    "ray-1": ray(1),
    "plain-2": Part("cloud_node", ("--threads", "2"), "cloud-node, 2 threads"),
    "ray-2": ray(2),
    "killed": ray(2, kill=True),
}


def run_part(part: Part, images: list[Path], folder: Path) -> dict[str, object]:
    """Send the images to one cloud; what came of them."""
    if part.module == RAY:
        pair = edge_of_ray(folder, *part.options)
    else:
        listen = ("--listen", "127.0.0.1:0", "--web-listen", "")
        pair = edge_before(part.module, (*listen, *part.options), folder)
    with pair as (edge, cloud):
        send(edge, images[:WARMUP], then=nothing)
        killed: list[int] = []
        then = killing(cloud, killed) if part.kill else nothing
        run = send(edge, images, after=len(images) // 2, then=then)
    return figures(run, part) | {"killed_replicas": len(killed)}


def killing(cloud: Daemon, killed: list[int]) -> Callable[[], None]:
    def kill() -> None:
        victim = replicas(cloud)[0]
        victim.kill()
        killed.append(victim.pid)

    return kill


def figures(run: Run, part: Part) -> dict[str, object]:
    return {
        "cloud": part.words,
        "images": run.images,
        "lost": run.lost,
        "answered_by_edge_exit": run.edge_exit,
        "failed": run.failed,
        "seconds": round(run.seconds, 2),
        "images_per_second": round(run.images_s, 1),
        "latency_ms_p50": round(run.quantile_ms(50), 1),
        "latency_ms_p99": round(run.quantile_ms(99), 1),
    }


def table(parts: dict[str, dict[str, object]]) -> str:
    """The parts beside one another, as docs/scale.md has them."""
    lines = ["| cloud | images | lost | images/s | p50 ms | p99 ms |", "|---|---|---|---|---|---|"]
    for found in parts.values():
        names = ("cloud", "images", "lost", "images_per_second", "latency_ms_p50", "latency_ms_p99")
        lines.append("| " + " | ".join(str(found[name]) for name in names) + " |")
    for threads in ("1", "2"):
        plain, under_ray = parts.get(f"plain-{threads}"), parts.get(f"ray-{threads}")
        if plain and under_ray:
            ratio = float(str(under_ray["images_per_second"])) / float(
                str(plain["images_per_second"])
            )
            lines.append(f"\nRay Serve with {threads}: {ratio:.2f} of the plain cloud's images/s")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.trials.scale", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all without any")
    parser.add_argument("--images", type=int, default=IMAGES)
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    kept = json.loads(REPORT.read_text())["parts"] if given.parts and REPORT.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        crops = crop_photos(Path(data.__file__).parent, given.images)
        images = write_crops(crops, folder / "images")
        for part in given.parts or PARTS:
            kept[part] = run_part(PARTS[part], images, folder / part)
            print(json.dumps({part: kept[part]}), flush=True)
    parts = {name: kept[name] for name in PARTS if name in kept}
    facts = machine_facts() | {"ray": importlib.metadata.version("ray")}
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps({"machine": facts, "parts": parts}, indent=2) + "\n")
    print(table(parts))
    return 0 if all(found["lost"] == 0 for found in parts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
