"""``spikebottlenet send``: images to an edge-node, answers as a table, JSON lines or CSV."""

import asyncio
import csv
import json
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spikebottlenet.accounting.record import InferenceRecord, Totals
from spikebottlenet.cli.access import Ca, Cert, Insecure, Key, TokenFile, channel_security
from spikebottlenet.cli.client import Wishes, classify_images, edge_client
from spikebottlenet.cli.sources import ImageSource, find_images
from spikebottlenet.cli.table import print_table, record_table, totals_line
from spikebottlenet.errors import ConfigError
from spikebottlenet.rpc.security import PLAINTEXT, ChannelSecurity
from spikebottlenet.tracing import running_tracer

_STORE_RETRY_S = 30.0


def json_record(image: str, record: InferenceRecord) -> dict[str, Any]:
    """One record as ``--json`` writes it."""
    return {"image": image, **record.as_json()}


def _flat(plain: dict[str, Any]) -> dict[str, Any]:
    """A record for CSV: stages as columns of their own, ``top5`` as ``label=probability`` words."""
    flat = {key: value for key, value in plain.items() if key not in ("top5", "latency_ms")}
    flat["top5"] = " ".join(f"{s['label']}={s['probability']:.4f}" for s in plain["top5"])
    return flat | {f"latency_ms_{stage}": ms for stage, ms in plain["latency_ms"].items()}


class Sent:
    """Answers in the order of the images, written as soon as their turn comes."""

    def __init__(self, images: Sequence[ImageSource], *, style: str, out: TextIO) -> None:
        self.images = images
        self.records: dict[int, InferenceRecord] = {}
        self.totals = Totals()
        self.failed = 0
        self._style = style
        self._out = out
        self._writer: Any = None
        self._next = 0
        self._known: set[int] = set()

    def rows(self) -> list[tuple[str, InferenceRecord]]:
        """Name and record of every answered image, in order."""
        return [(self.images[index].name, self.records[index]) for index in sorted(self.records)]

    def answered(self, index: int, record: InferenceRecord) -> None:
        """Take one answer."""
        self.records[index] = record
        self.totals.add(record)
        self._advance(index)

    def refused(self, index: int, reason: str) -> None:
        """Take one failure, said by name on standard error."""
        self.failed += 1
        print(f"{self.images[index].name}: {reason}", file=sys.stderr)
        self._advance(index)

    def _advance(self, index: int) -> None:
        self._known.add(index)
        while self._next in self._known:
            if self._next in self.records:
                self._write(json_record(self.images[self._next].name, self.records[self._next]))
            self._next += 1

    def _write(self, plain: dict[str, Any]) -> None:
        if self._style == "json":
            print(json.dumps(plain, ensure_ascii=False), file=self._out, flush=True)
        elif self._style == "csv":
            flat = _flat(plain)
            if self._writer is None:
                self._writer = csv.DictWriter(self._out, list(flat), lineterminator="\n")
                self._writer.writeheader()
            self._writer.writerow(flat)
            self._out.flush()


async def send_all(
    edge: str, sent: Sent, wishes: Wishes, security: ChannelSecurity = PLAINTEXT
) -> float:
    """Send every image under a progress bar; returns seconds."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("send", total=len(sent.images))
        async with edge_client(edge, security) as client:
            async for index, record, error in classify_images(client, sent.images, wishes):
                if record is not None:
                    sent.answered(index, record)
                else:
                    sent.refused(index, str(error))
                bar.advance(task)
    return time.monotonic() - started


def send(
    paths: Annotated[
        list[str], typer.Argument(help="files, folders, globs, or - for standard input")
    ],
    edge: Annotated[str, typer.Option(help="host:port of the edge-node")] = "127.0.0.1:50051",
    deadline_ms: Annotated[
        int,
        typer.Option(
            min=0, max=2**32 - 1, help="wait for the cloud's answer; 0: the edge-node's setting"
        ),
    ] = 0,
    store: Annotated[
        bool,
        typer.Option(
            "--store",
            help="keep the spikes on the edge-node's disk until the cloud has answered for them; "
            "`spikebottlenet results` says what it answered",
        ),
    ] = False,
    model: Annotated[
        str, typer.Option(help="name or fingerprint of a model; '': the edge-node's first")
    ] = "",
    retry_s: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="try an edge-node again that is away or full, until nothing was answered for so "
            "many seconds (default: 30 with --store, else 0)",
        ),
    ] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
    csv_lines: Annotated[bool, typer.Option("--csv", help="comma-separated values")] = False,
    trace_to: Annotated[
        str, typer.Option(help="URL of an OpenTelemetry collector (OTLP over gRPC)")
    ] = "",
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
) -> None:
    """Send images to an edge-node and show what they are, and what that took.

    Exits 0 only if every image was answered; a bad one is named and the rest go on.
    """
    if json_lines and csv_lines:
        raise ConfigError("found --json and --csv, wanted one of them")
    images = find_images(paths)
    if not images:
        raise ConfigError(f"no image in {', '.join(paths)}: give files, or folders that hold some")
    style = "json" if json_lines else "csv" if csv_lines else "table"
    sent = Sent(images, style=style, out=sys.stdout)
    if retry_s is None:
        retry_s = _STORE_RETRY_S if store else 0.0
    wishes = Wishes(deadline_ms=deadline_ms, store=store, model=model, retry_s=retry_s)
    security = channel_security(ca, cert, key, token_file, insecure)

    async def traced() -> float:
        async with running_tracer(trace_to, "spikebottlenet send") as tracer:
            return await send_all(edge, sent, wishes._replace(tracer=tracer), security)

    seconds = asyncio.run(traced())
    if style == "table" and sent.records:
        print_table(record_table(sent.rows()))
    shown = sys.stdout if style == "table" else sys.stderr
    print(totals_line(sent.totals, failed=sent.failed, seconds=seconds), file=shown)
    if sent.failed:
        raise typer.Exit(1)
