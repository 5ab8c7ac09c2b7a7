"""``edge-node queue``, with nobody holding the queue and while an edge-node does."""

import asyncio
import json
import sys
from pathlib import Path

from edge_node.queue import open_queue
from tests.queue_driver import MODEL, WIDE, answer


async def command(path: Path, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edge_node", "queue", *arguments, "--store-path", str(path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def test_commands_with_nobody_holding_the_queue(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    code, _, errors = await command(path, "list")
    assert code == 1
    assert "nothing was stored" in errors
    async with open_queue(path, WIDE) as queue:
        for _ in range(4):
            await queue.accept(b"", b"spikes", **MODEL)
        await queue.complete(1, answer(1))
        await queue.bury([2], "not served")
    code, out, _ = await command(path, "list", "--json")
    listed = json.loads(out)
    counts = [listed[state] for state in ("waiting", "answered", "dead")]
    assert (code, counts) == (0, [2, 1, 1])
    assert "not served" in (await command(path, "list"))[1]
    code, out, _ = await command(path, "export", "-")
    exported = [json.loads(line) for line in out.splitlines()]
    assert [(one["sequence"], one["state"]) for one in exported] == [
        (2, "dead"),
        (3, "waiting"),
        (4, "waiting"),
    ]
    assert (await command(path, "retry"))[:2] == (0, "1 requests wait again\n")
    assert (await command(path, "purge", "--waiting"))[0] == 2
    done = await command(path, "purge", "--waiting", "--yes")
    assert done[:2] == (0, "3 requests forgotten\n")
    async with open_queue(path, WIDE) as queue:
        found = await queue.results(after=0, sequences=None, limit=10)
        assert [result.sequence for result in found] == [1]


async def test_a_command_returns_once_the_holder_did_it(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    async with open_queue(path, WIDE) as queue:
        for _ in range(3):
            await queue.accept(b"", b"spikes", **MODEL)
        await queue.bury([1, 3], "not served")
        assert (await command(path, "retry"))[:2] == (0, "2 requests wait again\n")
        waiting = await queue.waiting(after=0, limit=10)
        assert [request.sequence for request in waiting] == [1, 2, 3]
        assert queue.revivals == 1
        done = await command(path, "purge", "--waiting", "--yes")
        assert done[:2] == (0, "3 requests forgotten\n")
        assert not await queue.waiting(after=0, limit=10)
