"""``edge-node bundle``: what the store holds, back to the bundle before, or on to the cloud's."""

import argparse
import asyncio
import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_node.fetch import MAX_PART_BYTES, fetch_bundle
from spikebottlenet.bundle import Half, open_bundle
from spikebottlenet.bundle_store import BundleStore, StoredBundle
from spikebottlenet.calling import CallingSettings
from spikebottlenet.errors import BundleError, SpikeBottleNetError
from spikebottlenet.rpc.channel import make_channel
from spikebottlenet.rpc.security import call_metadata
from spikebottlenet.rpc.v1.coinference_pb2_grpc import CoInferenceStub
from spikebottlenet.state_dir import state_dir

ABOUT = """Bundles that this edge fetched from its cloud: the one in use, the one before it, and the
latest of the others. A running edge-node takes a change at its next start or reload (SIGHUP)."""

EXAMPLE = """examples:
  edge-node bundle list
  edge-node bundle fetch --cloud 192.0.2.7:50061
  edge-node bundle rollback"""


def bundle_main(arguments: Sequence[str]) -> int:
    """Run one of the commands; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        store = BundleStore(options.bundle_store or state_dir())
        match options.command:
            case "list":
                _print_list(store, as_json=options.json)
            case "rollback":
                _print_current(store.rollback(Half.EDGE))
            case "fetch":
                _print_current(asyncio.run(_fetch(store, options)))
    except SpikeBottleNetError as error:
        print(f"edge-node bundle: {error}", file=sys.stderr)
        return 1
    return 0


async def _fetch(store: BundleStore, options: argparse.Namespace) -> Path:
    given = {name: getattr(options, name) for name in CallingSettings.model_fields}
    security = CallingSettings(**given).channel_security()
    metadata = call_metadata(security)
    async with make_channel(
        options.cloud, max_message_bytes=MAX_PART_BYTES, security=security
    ) as channel:
        stub = CoInferenceStub(channel)
        return await fetch_bundle(stub, store, fingerprint=options.fingerprint, metadata=metadata)


def _print_current(folder: Path) -> None:
    bundle = open_bundle(folder, Half.EDGE)
    print(f"current is {bundle.fingerprint} ({bundle.manifest.name})")


def _print_list(store: BundleStore, *, as_json: bool) -> None:
    stored = store.bundles()
    if as_json:
        for bundle in stored:
            print(json.dumps(_plain(bundle)))
        return
    if not stored:
        print(f"no bundle in {store.folder}")
    for bundle in stored:
        use = "current" if bundle.is_current else "previous" if bundle.is_previous else ""
        when = _time(bundle.stored_unix_s)
        print(f"{use:8}  {bundle.fingerprint}  {bundle.bytes:>10} B  {when}  {_name(bundle)}")


def _plain(bundle: StoredBundle) -> dict[str, object]:
    return {
        "fingerprint": bundle.fingerprint,
        "name": _name(bundle),
        "bytes": bundle.bytes,
        "stored": _time(bundle.stored_unix_s),
        "current": bundle.is_current,
        "previous": bundle.is_previous,
    }


def _time(unix_s: float) -> str:
    return datetime.datetime.fromtimestamp(unix_s, tz=datetime.UTC).isoformat(timespec="seconds")


def _name(bundle: StoredBundle) -> str:
    try:
        name = open_bundle(bundle.folder, Half.EDGE).manifest.name
    except BundleError:
        return "(damaged: fetch it again)"
    return name if name.isprintable() else repr(name)


def _fingerprint(text: str) -> bytes:
    """What a user gives, as bytes."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise argparse.ArgumentTypeError(f"{text!r} is not 64 hexadecimal digits")
    return found


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port, such as 192.0.2.7:50061")
    return text


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    shared.add_argument(
        "--bundle-store",
        metavar="DIR",
        type=Path,
        help="where the bundles are (default: $STATE_DIRECTORY, "
        "else $XDG_STATE_HOME/spikebottlenet, else ~/.local/state/spikebottlenet)",
    )
    parser = argparse.ArgumentParser(
        prog="edge-node bundle",
        description=ABOUT,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", parents=[shared], help="every bundle, the latest first")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    commands.add_parser(
        "rollback", parents=[shared], help="make the previous bundle current; again to undo it"
    )
    fetching = commands.add_parser(
        "fetch", parents=[shared], help="make the cloud's bundle current, fetched if it is not here"
    )
    fetching.add_argument(
        "--cloud", metavar="HOST:PORT", type=_address, required=True, help="the cloud-node to ask"
    )
    fetching.add_argument(
        "--fingerprint",
        metavar="HEX",
        type=_fingerprint,
        default=b"",
        help="of the bundle wanted (default: the cloud's first)",
    )
    for name in ("cloud_ca", "cloud_cert", "cloud_key", "cloud_token_file"):
        fetching.add_argument(
            f"--{name.replace('_', '-')}",
            metavar="FILE",
            default="",
            help=CallingSettings.model_fields[name].description,
        )
    fetching.add_argument(
        "--cloud-insecure",
        action="store_true",
        help=CallingSettings.model_fields["cloud_insecure"].description,
    )
    return parser
