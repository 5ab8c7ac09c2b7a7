"""Runs libFuzzer on one target in a process of its own, and reads what it says."""

import hashlib
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import CORPUS, TARGETS, WORDS

_TIMEOUT_S = 20  # wall time after which libFuzzer ends an input that does not end
_RSS_LIMIT_MB = 2048  # of the whole process, with its corpus
_MAX_CRASHES = 5
_STATUS = re.compile(r"^#\d+\s+\w+\s+cov: (\d+) ft: (\d+) corp: (\d+)", re.MULTILINE)
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s+(\d+)")


@dataclass
class FuzzResult:
    """What came of fuzzing one target."""

    target: str
    seconds: float = 0.0
    executions: int = 0
    corpus_inputs: int = 0
    coverage_edges: int = 0
    coverage_features: int = 0
    slowest_cpu_ms: float = 0.0
    peak_allocation_bytes: int = 0
    crashes: list[str] = field(default_factory=list)  # files with the inputs
    reasons: list[str] = field(default_factory=list)  # last line of each traceback


class Fuzzer:
    """One target, with its working folder."""

    def __init__(self, name: str, work: Path) -> None:
        self._name = name
        self._work = work
        self._found = work / "corpus"
        self._kept = CORPUS / name
        self._script = work / "run.sh"

    def fuzz(self, seconds: float) -> FuzzResult:
        """Fuzz for so long, on after a crash, from the kept corpus and what was found before."""
        self._prepare()
        (self._work / "costs.json").unlink(missing_ok=True)
        result = FuzzResult(self._name)
        ends = time.monotonic() + seconds
        while (left := math.ceil(ends - time.monotonic())) > 0 and len(
            result.crashes
        ) < _MAX_CRASHES:
            self._run_once(left, result)
        self._read_costs(result)
        return result

    def minimise(self) -> int:
        """Keep the fewest inputs with all the coverage; how many they are."""
        self._prepare()
        fresh = self._work / "minimal"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        self._libfuzzer("-merge=1", str(fresh), str(self._found), str(self._kept))
        inputs = [path.read_bytes() for path in fresh.iterdir()]
        if not inputs:
            raise RuntimeError(f"the merge kept nothing: see {self._work / 'log'}")
        wanted = {_file_name(data): data for data in inputs}
        for name, data in wanted.items():
            (self._kept / name).write_bytes(data)
        for path in self._kept.iterdir():
            if path.name not in wanted:
                path.unlink()
        return len(wanted)

    def _prepare(self) -> None:
        for folder in (self._found, self._kept, self._work / "crashes"):
            folder.mkdir(parents=True, exist_ok=True)
        for data in seeds(self._name):
            if len(data) <= TARGETS[self._name]:
                (self._found / _file_name(data)).write_bytes(data)
        # libFuzzer starts itself again by its first argument, so that has to be one program.
        child = [sys.executable, "-W", "ignore", "-m", "tests.fuzz.child", self._name]
        command = shlex.join([*child, str(self._work)])
        self._script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        self._script.chmod(0o755)

    def _run_once(self, seconds: int, result: FuzzResult) -> None:
        started = time.monotonic()
        crashes = self._work / "crashes"
        before = set(crashes.iterdir())
        said = self._libfuzzer(
            f"-max_total_time={seconds}", str(self._found), str(self._kept), "-print_final_stats=1"
        )
        result.seconds += time.monotonic() - started
        result.executions += sum(int(count) for count in _EXECUTED.findall(said))
        if status := _STATUS.findall(said):
            edges, features, inputs = map(int, status[-1])
            result.coverage_edges = max(result.coverage_edges, edges)
            result.coverage_features = max(result.coverage_features, features)
            result.corpus_inputs = max(result.corpus_inputs, inputs)
        for path in sorted(set(crashes.iterdir()) - before):
            result.crashes.append(str(path))
            result.reasons.append(_reason(said))
        if not status:
            raise RuntimeError(
                f"the fuzzer did not start: see {self._work / 'log'}\n{said[-2000:]}"
            )

    def _libfuzzer(self, *arguments: str) -> str:
        options = [
            f"-max_len={TARGETS[self._name]}",
            f"-timeout={_TIMEOUT_S}",
            f"-rss_limit_mb={_RSS_LIMIT_MB}",
            f"-artifact_prefix={self._work / 'crashes'}{os.sep}",
        ]
        if (words := WORDS / f"{self._name}.dict").exists():
            options.append(f"-dict={words}")
        done = subprocess.run(
            [str(self._script), *options, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        (self._work / "log").write_text(done.stdout)
        return done.stdout

    def _read_costs(self, result: FuzzResult) -> None:
        costs = json.loads((self._work / "costs.json").read_text())
        result.slowest_cpu_ms = round(costs["cpu_s"] * 1e3, 1)
        result.peak_allocation_bytes = costs["peak_bytes"]


def _file_name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _reason(said: str) -> str:
    lines = said.splitlines()
    for index, line in enumerate(lines):
        if "Uncaught Python exception" in line:
            return lines[min(index + 1, len(lines) - 1)][:300]
    told = [line for line in lines if line.startswith("==") and "ERROR" in line]
    return told[0][:300] if told else "unknown: see the log"
