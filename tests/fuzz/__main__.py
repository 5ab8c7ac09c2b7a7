"""Fuzz a target, or all in turn: ``python -m tests.fuzz TARGET --seconds N``."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from tests.fuzz.fuzzer import Fuzzer
from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz, write the report, and end with status 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--report", type=Path, help="JSON with what came of each target")
    parser.add_argument("--work", type=Path, default=Path("build/fuzz"), help="what is found")
    parser.add_argument("--keep", action="store_true", help="minimise into the kept corpus")
    chosen = parser.parse_args()
    names = list(TARGETS) if chosen.target == "all" else [chosen.target]
    results = []
    for name in names:
        fuzzer = Fuzzer(name, chosen.work.resolve() / name)
        results.append(fuzzer.fuzz(chosen.seconds))
        print(json.dumps(asdict(results[-1])), flush=True)
        if chosen.keep:
            print(f"{name}: {fuzzer.minimise()} inputs kept", flush=True)
        if chosen.report is not None:
            chosen.report.parent.mkdir(parents=True, exist_ok=True)
            plain = {"targets": [asdict(result) for result in results]}
            chosen.report.write_text(json.dumps(plain, indent=2) + "\n")
    sys.exit(any(result.crashes for result in results))


if __name__ == "__main__":
    main()
