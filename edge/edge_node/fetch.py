"""Fetches a bundle from the cloud into the store: bounded, checked, tried, only then current."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import grpc
import grpc.aio

from edge_node.trial import try_bundle
from spikebottlenet.bundle import Half
from spikebottlenet.bundle_store import BundleStore
from spikebottlenet.errors import BundleError, SpikeBottleNetError, UnavailableError
from spikebottlenet.incoming_bundle import IncomingBundle, parse_manifest
from spikebottlenet.logs import fields
from spikebottlenet.rpc.status import error_from_status
from spikebottlenet.rpc.v1.coinference_pb2 import GetModelRequest, ModelPart
from spikebottlenet.rpc.v1.coinference_pb2_grpc import CoInferenceStub

log = logging.getLogger(__name__)

# Of a part that comes: a manifest at its limit, or a chunk, which is smaller.
MAX_PART_BYTES = 2 * 1024 * 1024

_Metadata = Sequence[tuple[str, str]]
_Result = TypeVar("_Result")


class Patience(NamedTuple):
    """How long a fetch may take, seconds."""

    silence_s: float = 10.0  # from one part to the next
    whole_s: float = 3600.0  # 4 MB take ten minutes at 56 kbit/s; a cloud that drips ends here


PATIENCE = Patience()


async def bundle_for_start(
    stub: CoInferenceStub,
    store: BundleStore,
    *,
    fingerprint: bytes = b"",
    metadata: _Metadata = (),
    patience: Patience = PATIENCE,
) -> Path:
    """The cloud's bundle for a daemon that starts; without the cloud, the one it had.

    What a killed process left in the store is removed first. A bundle that was rolled back from is
    not taken again, unless ``fingerprint`` asks for it.

    Raises:
        SpikeBottleNetError: why none can be fetched, and there is none here.
    """
    try:
        await _on_disk(store.clean)
        return await fetch_bundle(
            stub,
            store,
            fingerprint=fingerprint,
            metadata=metadata,
            patience=patience,
            unless_left=not fingerprint,
        )
    except SpikeBottleNetError as error:
        folder = await _on_disk(partial(store.usable, Half.EDGE))
        if folder is None or (fingerprint and folder.name != fingerprint.hex()):
            raise
        log.warning("bundle not fetched", extra=fields(reason=str(error), used=folder.name))
        return folder


async def fetch_bundle(
    stub: CoInferenceStub,
    store: BundleStore,
    *,
    fingerprint: bytes = b"",
    metadata: _Metadata = (),
    patience: Patience = PATIENCE,
    unless_left: bool = False,
) -> Path:
    """Make the cloud's bundle the store's current one; what is here already is not sent again.

    ``fingerprint`` asks for one bundle; without it the cloud's first comes. ``unless_left`` keeps
    the current bundle if the cloud's is the one that was rolled back from. The channel should take
    ``MAX_PART_BYTES``. Returns the current bundle's folder.

    Raises:
        UnavailableError: the cloud is away, or fell silent.
        BundleError: what came is not the bundle, or does not run; the current one was kept.
        StoreError: disk full, no permission; the current one was kept.
        SpikeBottleNetError: why the cloud refused.
    """
    try:
        async with asyncio.timeout(patience.whole_s):
            text = await fetch_manifest(stub, fingerprint, metadata, patience.silence_s)
            manifest = await _on_disk(partial(parse_manifest, text, fingerprint=fingerprint.hex()))
            found = manifest.fingerprint
            if unless_left and found == store.left:
                current = store.current
                name = current.name if current else ""
                is_whole: bool = await _on_disk(partial(store.holds, name, Half.EDGE))
                if current and is_whole:
                    log.info("cloud's bundle was rolled back from", extra=fields(fingerprint=found))
                    return current
            if await _on_disk(partial(store.holds, found, Half.EDGE)):
                return await _on_disk(partial(store.use, found))
            names = manifest.files_of(Half.EDGE)
            folder = await _files(stub, store, text, found, names, metadata, patience.silence_s)
    except TimeoutError:
        raise UnavailableError(
            f"the cloud did not send the bundle within {patience.whole_s:g} s: try again later"
        ) from None
    log.info("bundle fetched", extra=fields(bundle=manifest.name, fingerprint=found))
    return folder


async def fetch_manifest(
    stub: CoInferenceStub, fingerprint: bytes, metadata: _Metadata, silence_s: float
) -> str:
    """A bundle's manifest as the cloud sends it, not yet checked.

    Raises:
        UnavailableError: the cloud is away, or fell silent.
        SpikeBottleNetError: why it refused.
    """
    call = stub.GetModel(GetModelRequest(fingerprint=fingerprint), metadata=tuple(metadata))
    try:
        return _manifest_of(await _next_part(call, silence_s))
    finally:
        call.cancel()


async def _files(
    stub: CoInferenceStub,
    store: BundleStore,
    text: str,
    fingerprint: str,
    names: tuple[str, ...],
    metadata: _Metadata,
    silence_s: float,
) -> Path:
    request = GetModelRequest(files=names, fingerprint=bytes.fromhex(fingerprint))
    call = stub.GetModel(request, metadata=tuple(metadata))
    try:
        async with _receiving(store, text, fingerprint) as incoming:
            if _manifest_of(await _next_part(call, silence_s)) != text:
                raise BundleError(
                    f"the cloud sent another manifest than that of {fingerprint} the second time: "
                    "nothing was changed, fetch it again"
                )
            while (part := await _next_part(call, silence_s)) is not None:
                if part.WhichOneof("part") != "chunk":
                    raise BundleError(
                        "the cloud sent something that is no chunk of a file: check its version"
                    )
                name, offset, data = part.chunk.name, part.chunk.offset, part.chunk.data
                await _on_disk(partial(incoming.write, name, offset=offset, data=data))
            return await _on_disk(partial(store.install, incoming, trial=try_bundle))
    finally:
        call.cancel()


@asynccontextmanager
async def _receiving(
    store: BundleStore, manifest_json: str, fingerprint: str
) -> AsyncIterator[IncomingBundle]:
    """The store's own, entered and left in a thread; left too when entering it was cancelled."""
    receiving = store.receiving(manifest_json, Half.EDGE, fingerprint=fingerprint)
    try:
        yield await _on_disk(receiving.__enter__)
    finally:
        await _on_disk(partial(receiving.__exit__, None, None, None))


def _manifest_of(part: ModelPart | None) -> str:
    if part is None or part.WhichOneof("part") != "manifest_json":
        raise BundleError("the cloud did not begin with a manifest: check its version")
    return part.manifest_json


async def _next_part(call: Any, silence_s: float) -> ModelPart | None:
    """The next part; None at the end."""
    try:
        async with asyncio.timeout(silence_s):
            part = await call.read()
            if isinstance(part, ModelPart):
                return part
            if part is None:  # that is how gRPC hands on what it cannot read
                raise BundleError("the cloud sent bytes that are no message: check its version")
            code, details = await call.code(), await call.details()
    except TimeoutError:
        raise UnavailableError(
            f"the cloud sent nothing for {silence_s:g} s: the bundle in use is kept, try again"
        ) from None
    except grpc.aio.AioRpcError as error:
        code, details = error.code(), error.details()
    if code is grpc.StatusCode.OK:
        return None
    raise error_from_status(code, details or "the cloud ended the call and gave no reason")


async def _on_disk(work: Callable[[], _Result]) -> _Result:
    """Run in a thread; one that is cancelled waits, because a thread cannot be stopped half-way."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
