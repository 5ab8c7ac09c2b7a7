"""The shell commands that a page shows, and a session that runs them as a reader would."""

import os
import re
import selectors
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

_PROGRAMS = ("make", "pip", "spikebottlenet", "edge-node", "cloud-node", "camera-grab")
_SERVING = re.compile(r"serving on (\S+:\d+),")
_START_WITHIN_S = 60
_STOP_WITHIN_S = 30


class Command(NamedTuple):
    """One command of a page, its lines joined and its comment left out."""

    page: str
    text: str

    @property
    def program(self) -> str:
        """The word that it begins with."""
        return self.text.split()[0].removeprefix(".venv/bin/")


def commands_of(page: Path) -> list[Command]:
    """Every command in the page's code blocks, in their order."""
    blocks = [
        line[4:] for line in page.read_text(encoding="utf-8").splitlines() if line[:4] == "    "
    ]
    joined = re.sub(r"\\\n\s*", "", "\n".join(blocks))
    lines = [re.sub(r"\s+#.*", "", line).strip() for line in joined.splitlines()]
    found = [Command(page.name, line) for line in lines if line]
    return [each for each in found if each.program in _PROGRAMS]


def inline_commands(page: Path) -> list[str]:
    """Commands named within the page's sentences."""
    text = page.read_text(encoding="utf-8")
    spans = re.findall(r"`([^`\n]+)`", text)
    return [span for span in spans if span.split()[0] in ("make", "spikebottlenet")]


class Session:
    """A shell in a folder of its own; daemons stay up until it ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        bin_folder = Path(sys.executable).parent
        path = f"{folder / 'bin'}:{bin_folder}:{os.environ['PATH']}"
        self._environment = os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1"}
        self._daemons: dict[str, subprocess.Popen[str]] = {}
        self.addresses: dict[str, str] = {}  # of the running daemon of each program

    def run(self, text: str) -> str:
        """Run one line of shell; its standard output."""
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{text}: {done.stdout} {done.stderr}"
        return done.stdout

    def start(self, program: str, text: str) -> None:
        """Start a daemon by one line of shell and wait until it serves; the one before ends."""
        self.stop(program)
        log = (self._folder / f"{program}.log").open("w")
        process = subprocess.Popen(
            ["bash", "-c", f"exec {text}"],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        log.close()
        self._daemons[program] = process
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            ready = selector.select(_START_WITHIN_S)
        found = _SERVING.search(process.stdout.readline()) if ready else None
        assert found, f"{text}: {(self._folder / f'{program}.log').read_text()}"
        self.addresses[program] = found[1]

    def stop(self, program: str) -> None:
        """End a daemon, if it runs."""
        process = self._daemons.pop(program, None)
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        assert process.wait(_STOP_WITHIN_S) == 0
        assert process.stdout is not None
        process.stdout.close()

    def close(self) -> None:
        """End what still runs."""
        for process in self._daemons.values():
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
