"""Gives kept inputs, or the attacks, to their targets: ``python -m tests.fuzz.replay WHAT``.

``WHAT`` is a target or ``attacks``. One JSON object a line for each input that broke a limit or a
target, then one with the count. A process of its own, so that a limit of memory hits nothing else.
"""

import json
import sys
from collections.abc import Iterator

from tests.fuzz.attacks import attacks
from tests.fuzz.limits import Target, give_back_memory, run_watched
from tests.fuzz.targets import TARGETS, corpus, open_target

_HANG_S = 5.0  # generous: this is a test, run on any machine; fuzzing itself allows 1 s


def main() -> None:
    """End with status 1 if any input broke something."""
    what = sys.argv[1]
    give_back_memory()
    count = broken = 0
    for name, target, data in _attacks() if what == "attacks" else _kept(what):
        count += 1
        try:
            run_watched(target, data, hang_s=_HANG_S)
        except Exception as error:
            broken += 1
            print(json.dumps({"input": name, "broke": f"{type(error).__name__}: {error}"}))
    print(json.dumps({"inputs": count}))
    sys.exit(broken > 0)


def _kept(name: str) -> Iterator[tuple[str, Target, bytes]]:
    target = open_target(name)
    for path in corpus(name):
        yield path.name, target, path.read_bytes()


def _attacks() -> Iterator[tuple[str, Target, bytes]]:
    targets = {name: open_target(name) for name in TARGETS}
    for name, target, data in attacks():
        yield name, targets[target], data


if __name__ == "__main__":
    main()
