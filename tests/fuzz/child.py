"""One libFuzzer process: ``python -m tests.fuzz.child TARGET WORK LIBFUZZER-ARGUMENT...``"""

import json
import sys
from pathlib import Path

import atheris

INSTRUMENTED = [
    "spikebottlenet",
    "cloud_node",
    "PIL",
    "yaml",
    "numpy.lib._format_impl",
    "tests.fuzz",
]


def main() -> None:
    """Fuzz until libFuzzer ends the process; the slowest and the largest so far lie in a file."""
    name, work, *arguments = sys.argv[1:]
    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.limits import Cost, give_back_memory, run_watched
        from tests.fuzz.targets import open_target

        target = open_target(name)
    give_back_memory()
    worst = Cost(0.0, 0)

    def run(data: bytes) -> None:
        nonlocal worst
        cost = run_watched(target, data)
        if cost.cpu_s > worst.cpu_s or cost.peak_bytes > worst.peak_bytes:
            worst = Cost(max(cost.cpu_s, worst.cpu_s), max(cost.peak_bytes, worst.peak_bytes))
            (Path(work) / "costs.json").write_text(
                json.dumps(vars(worst))
            )  # libFuzzer leaves by _exit

    atheris.Setup([f"{work}/run.sh", *arguments], run)  # a merge starts that again
    atheris.Fuzz()


if __name__ == "__main__":
    main()
