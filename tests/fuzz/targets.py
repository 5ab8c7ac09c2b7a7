"""What is fuzzed, and where each target's words and kept inputs lie."""

import importlib
from pathlib import Path

from tests.fuzz.limits import Target

_HERE = Path(__file__).parent
CORPUS = _HERE / "corpus"
WORDS = _HERE / "words"  # libFuzzer dictionaries

# Bytes of the longest input of each target. The daemons' own limits are far above; longer inputs
# take longer and reach no other code.
TARGETS = {"frame": 320, "envelope": 2048, "manifest": 2048, "weights": 1024, "image": 8192}


def open_target(name: str) -> Target:
    """The target of this name, ready to be given bytes."""
    target: Target = importlib.import_module(f"tests.fuzz.{name}").open_target()
    return target


def corpus(name: str) -> list[Path]:
    """The inputs that are kept for a target."""
    return sorted((CORPUS / name).iterdir())
