"""A daemon that is killed without warning and started again on its port, its log kept whole."""

import asyncio
from pathlib import Path

from spikebottlenet.cli.daemons import Daemon, start_daemon
from tests.free_port import free_port


class Killable:
    """One daemon and its lives."""

    def __init__(self, module: str, arguments: list[str], folder: Path) -> None:
        self.address = free_port()
        self.kills = 0
        self.logs: list[Path] = []
        self._module = module
        self._arguments = ["--listen", self.address, *arguments]
        self._folder = folder
        self._daemon: Daemon | None = None

    async def start(self) -> None:
        """Begin a life; returns when it serves."""
        log = self._folder / f"{self._module}-{len(self.logs)}.log"
        self.logs.append(log)
        self._daemon = await asyncio.to_thread(start_daemon, self._module, self._arguments, log)

    async def kill(self) -> None:
        """SIGKILL, and start again."""
        self.end(kill=True)
        self.kills += 1
        await self.start()

    def end(self, *, kill: bool = False) -> int:
        """Stop it; its exit status."""
        if self._daemon is None:
            return 0
        process, self._daemon = self._daemon.process, None
        if kill:
            process.kill()
        else:
            process.terminate()
        status = process.wait(60)
        if process.stdout is not None:
            process.stdout.close()
        return status
