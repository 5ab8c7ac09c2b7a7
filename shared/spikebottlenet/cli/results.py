"""``spikebottlenet results``: what became of stored images."""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import grpc.aio
import typer

from spikebottlenet.cli.access import Ca, Cert, Insecure, Key, TokenFile, channel_security
from spikebottlenet.cli.client import EdgeClient, edge_client
from spikebottlenet.cli.table import print_table, result_table
from spikebottlenet.errors import UnavailableError
from spikebottlenet.rpc.refusal import error_from_call
from spikebottlenet.rpc.security import ChannelSecurity
from spikebottlenet.rpc.v1.edge_pb2 import ResultsRequest, StoredResult

_ASK_EVERY_S = 0.5
_STATES = {
    StoredResult.STATE_WAITING: "waiting",
    StoredResult.STATE_ANSWERED: "answered",
    StoredResult.STATE_DEAD: "dead",
    StoredResult.STATE_DROPPED: "dropped",
}


def json_result(result: StoredResult) -> dict[str, Any]:
    """One result as ``--json`` writes it."""
    best = result.top5[0] if result.top5 else None
    return {
        "position": result.position,
        "request_id": result.request_id,
        "state": _STATES[result.state],
        "label": best.label if best else None,
        "confidence": best.probability if best else None,
        "top5": [{"label": s.label, "probability": s.probability} for s in result.top5],
        "timesteps": result.timesteps,
        "model": result.model,
        "fingerprint": result.fingerprint,
        "stored_unix_ms": result.stored_unix_ms,
        "reason": result.reason,
    }


async def fetch_results(
    client: EdgeClient, request: ResultsRequest, *, wait_s: float
) -> list[StoredResult]:
    """Ask until none of them waits any more, or ``wait_s`` have passed.

    Raises:
        SpikeBottleNetError: what the edge-node refused it for, or that it is away.
    """
    give_up = time.monotonic() + wait_s
    while True:
        try:
            call = client.stub.Results(request, metadata=client.metadata)
            found = [result async for result in call]
            waits = any(r.state == StoredResult.STATE_WAITING for r in found)
        except grpc.aio.AioRpcError as failed:
            error = error_from_call(failed)
            if not isinstance(error, UnavailableError) or time.monotonic() >= give_up:
                raise error from failed
            found, waits = [], True
        if not waits or time.monotonic() >= give_up:
            return found
        await asyncio.sleep(_ASK_EVERY_S)


async def _fetch(
    edge: str, request: ResultsRequest, wait_s: float, security: ChannelSecurity
) -> Sequence[StoredResult]:
    async with edge_client(edge, security) as client:
        return await fetch_results(client, request, wait_s=wait_s)


def results(
    request_ids: Annotated[
        list[str] | None, typer.Argument(help="request_id of a stored image; none: all")
    ] = None,
    edge: Annotated[str, typer.Option(help="host:port of the edge-node")] = "127.0.0.1:50051",
    after: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="only images stored after this position")
    ] = 0,
    limit: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="images at most; 0: all")] = 0,
    wait_s: Annotated[
        float, typer.Option(min=0, help="wait so long for those that are not answered yet")
    ] = 0.0,
    json_lines: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
) -> None:
    """Show what the cloud answered to images sent with --store, in the order they were stored.

    Exits 0 if every one of them is answered, 1 if one waits still, is dead or is not known.
    """
    security = channel_security(ca, cert, key, token_file, insecure)
    request = ResultsRequest(after=after, request_ids=request_ids or [], limit=limit)
    found = asyncio.run(_fetch(edge, request, wait_s, security))
    rows = [json_result(result) for result in found]
    if json_lines:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
    elif rows:
        print_table(result_table(rows))
    states = [row["state"] for row in rows]
    counts = ", ".join(f"{states.count(state)} {state}" for state in _STATES.values())
    unknown = sorted(set(request_ids or []) - {row["request_id"] for row in rows})
    if unknown and not limit:
        counts += f", {len(unknown)} not known any more ({', '.join(unknown)})"
    print(counts, file=sys.stderr if json_lines else sys.stdout)
    if states.count("answered") < len(states) + len(unknown):
        raise typer.Exit(1)
