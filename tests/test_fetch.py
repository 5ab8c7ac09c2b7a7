"""A bundle from the cloud, honest or not, into the edge's store."""

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from edge_node.fetch import MAX_PART_BYTES, PATIENCE, Patience, bundle_for_start, fetch_bundle
from edge_node.trial import try_bundle
from spikebottlenet.bundle import (
    EXIT_WEIGHTS,
    HEAD_ONNX,
    PRIOR,
    Bundle,
    Half,
    file_digest,
    open_bundle,
    write_manifest,
)
from spikebottlenet.bundle_store import BundleStore
from spikebottlenet.errors import (
    BundleError,
    ModelMismatchError,
    SpikeBottleNetError,
    UnavailableError,
)
from spikebottlenet.rpc.channel import make_channel
from spikebottlenet.rpc.server import ServiceCollector, running_server
from spikebottlenet.rpc.v1.coinference_pb2 import FileChunk, GetModelRequest, ModelPart
from spikebottlenet.rpc.v1.coinference_pb2_grpc import (
    CoInferenceServicer,
    CoInferenceStub,
    add_CoInferenceServicer_to_server,
)
from tests.conftest import Start
from tests.test_bundle_store import install, names, nothing_left, renamed

Parts = AsyncIterator[ModelPart]
CHUNK = 64 * 1024


class FakeCloud(CoInferenceServicer):
    """Answers each GetModel by what a test says, and keeps what was asked for."""

    def __init__(self, answer: Callable[[GetModelRequest], Parts]) -> None:
        self._answer = answer
        self.asked: list[list[str]] = []
        self.metadata: list[dict[str, str]] = []
        self.ended = asyncio.Semaphore(0)

    async def GetModel(self, request: GetModelRequest, context) -> Parts:  # noqa: N802
        self.asked.append(list(request.files))
        self.metadata.append(dict(context.invocation_metadata()))
        try:
            async for part in self._answer(request):
                yield part
        finally:
            self.ended.release()


@asynccontextmanager
async def stub_of(address: str) -> AsyncIterator[CoInferenceStub]:
    async with make_channel(address, max_message_bytes=MAX_PART_BYTES) as channel:
        yield CoInferenceStub(channel)


@asynccontextmanager
async def serving(answer: Callable[[GetModelRequest], Parts]) -> AsyncIterator[tuple]:
    collector, cloud = ServiceCollector(), FakeCloud(answer)
    add_CoInferenceServicer_to_server(cloud, collector)
    async with (
        running_server("127.0.0.1:0", collector, max_message_bytes=CHUNK) as server,
        stub_of(f"127.0.0.1:{server.port}") as stub,
    ):
        yield cloud, stub


def manifest_part(bundle: Bundle) -> ModelPart:
    return ModelPart(manifest_json=bundle.manifest.canonical_json())


def chunk(name: str, offset: int, data: bytes) -> ModelPart:
    return ModelPart(chunk=FileChunk(name=name, offset=offset, data=data))


def file_parts(bundle: Bundle, wanted: list[str]) -> list[ModelPart]:
    files = {name: bundle.path(name).read_bytes() for name in wanted}
    return [
        chunk(name, offset, data[offset : offset + CHUNK])
        for name, data in files.items()
        for offset in range(0, len(data), CHUNK)
    ]


def honest(bundle: Bundle) -> Callable[[GetModelRequest], Parts]:
    async def answer(request: GetModelRequest) -> Parts:
        yield manifest_part(bundle)
        for part in file_parts(bundle, list(request.files)):
            yield part

    return answer


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    """A store with one bundle in use."""
    store = BundleStore(tmp_path / "store")
    install(store, renamed("one"))
    return store


async def test_a_cloud_node_s_bundle_is_fetched_and_opens(
    start: Start, bundle: Bundle, other_bundle: Path, tmp_path: Path
) -> None:
    store = BundleStore(tmp_path / "new" / "store")
    cloud = start("cloud_node", "--bundle", f"{bundle.folder},{other_bundle}")
    other = open_bundle(other_bundle, Half.EDGE)
    async with stub_of(cloud.address) as stub:
        assert await fetch_bundle(stub, store) == store.current
        assert store.current is not None
        assert open_bundle(store.current, Half.EDGE).manifest == bundle.manifest
        assert {path.name for path in store.current.iterdir()} == {
            *bundle.manifest.files_of(Half.EDGE),
            "manifest.yaml",
        }
        await fetch_bundle(stub, store, fingerprint=bytes.fromhex(other.fingerprint))
        assert store.current.name == other.fingerprint
        assert store.rollback(Half.EDGE).name == bundle.fingerprint
        with pytest.raises(ModelMismatchError, match="cloud holds"):
            await fetch_bundle(stub, store, fingerprint=bytes(32))
    assert store.current.name == bundle.fingerprint
    assert nothing_left(store)


async def test_what_is_here_already_is_not_sent_again(store: BundleStore) -> None:
    two = renamed("two")
    async with serving(honest(two)) as (cloud, stub):
        metadata = (("authorization", "Bearer x"),)
        place = await fetch_bundle(stub, store, metadata=metadata)
        assert cloud.asked == [[], list(two.manifest.files_of(Half.EDGE))]
        assert [sent["authorization"] for sent in cloud.metadata] == ["Bearer x"] * 2
        store.rollback(Half.EDGE)
        assert await fetch_bundle(stub, store) == place == store.current
        assert cloud.asked == [[], list(two.manifest.files_of(Half.EDGE)), []]
        (place / PRIOR).write_bytes(b"damaged")
        await fetch_bundle(stub, store)
        assert cloud.asked[3:] == [[], list(two.manifest.files_of(Half.EDGE))]
        assert store.holds(two.fingerprint, Half.EDGE)


TWO = renamed("two")
WHOLE = file_parts(TWO, list(TWO.manifest.files_of(Half.EDGE)))
ALTERED = chunk(HEAD_ONNX, 0, bytes(CHUNK))


def endless() -> Iterator[ModelPart]:
    return (chunk(HEAD_ONNX, offset, bytes(CHUNK)) for offset in itertools.count(0, CHUNK))


# What comes after the manifest, and what is said of it.
LIES: dict[str, tuple[Callable[[], Iterable[ModelPart]], str]] = {
    "wrong bytes": (lambda: [ALTERED, *WHOLE[1:]], "was altered"),
    "wrong offset": (lambda: [WHOLE[0], WHOLE[2]], "goes on at byte"),
    "overlap": (lambda: [WHOLE[0], WHOLE[0]], "goes on at byte 0"),
    "endless": (endless, "more than 8388608 bytes"),
    "endless nothing": (lambda: itertools.repeat(chunk(HEAD_ONNX, 0, b"")), "without bytes"),
    "file not asked for": (lambda: [chunk("../../x", 0, b"x")], "was not asked for"),
    "cloud's half": (lambda: [chunk("tail.safetensors", 0, b"x")], "was not asked for"),
    "file twice": (lambda: [*WHOLE, WHOLE[0]], "second time"),
    "stops in the middle": (lambda: WHOLE[: len(WHOLE) // 2], "not bundle"),
    "nothing": (list, "not bundle"),
    "manifest again": (lambda: [manifest_part(TWO)], "no chunk"),
    "empty part": (lambda: [ModelPart()], "no chunk"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_cloud_that_lies_changes_nothing(store: BundleStore, lie: str) -> None:
    parts, said = LIES[lie]

    async def answer(request: GetModelRequest) -> Parts:
        yield manifest_part(TWO)
        for part in parts() if request.files else []:
            yield part

    careful = BundleStore(store.folder, max_bundle_bytes=8 * 1024 * 1024)
    async with serving(answer) as (cloud, stub):
        await refused(cloud, stub, careful, BundleError, said)


@pytest.mark.parametrize("broken", [HEAD_ONNX, PRIOR, EXIT_WEIGHTS])
async def test_a_bundle_that_came_whole_and_does_not_run_is_not_used(
    store: BundleStore, tmp_path: Path, broken: str
) -> None:
    folder = Path(shutil.copytree(TWO.folder, tmp_path / "broken"))
    (folder / broken).write_bytes(b"neither weights nor a graph")
    files = TWO.manifest.files | {broken: file_digest(folder / broken)}
    bundle = Bundle(folder, TWO.manifest.model_copy(update={"files": files}))
    async with serving(honest(bundle)) as (cloud, stub):
        await refused(cloud, stub, store, BundleError, broken)


def test_an_edge_exit_for_other_classes_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle.folder, tmp_path / "two"))
    try_bundle(folder)
    manifest = bundle.manifest
    architecture = manifest.architecture.model_copy(update={"classes": 2})
    changes = {"architecture": architecture, "class_names": ("a", "b")}
    write_manifest(folder, manifest.model_copy(update=changes))
    with pytest.raises(BundleError, match="100 probabilities for 2 classes"):
        try_bundle(folder)


async def refused(
    cloud: FakeCloud,
    stub: CoInferenceStub,
    store: BundleStore,
    kind: type[SpikeBottleNetError],
    said: str,
    *,
    fingerprint: bytes = b"",
    patience: Patience = PATIENCE,
) -> None:
    """A fetch fails, says so, ends its calls and leaves the store as it was."""
    before = (store.current, store.previous, names(store))
    with pytest.raises(kind, match=said):
        await fetch_bundle(stub, store, fingerprint=fingerprint, patience=patience)
    assert (store.current, store.previous, names(store)) == before
    assert nothing_left(store)
    async with asyncio.timeout(30):
        for _ in cloud.asked:
            await cloud.ended.acquire()


async def test_a_manifest_of_another_bundle_is_refused(store: BundleStore) -> None:
    async def turncoat(request: GetModelRequest) -> Parts:
        yield manifest_part(renamed("three") if request.files else TWO)

    async with serving(honest(renamed("three"))) as (cloud, stub):
        fingerprint = bytes.fromhex(TWO.fingerprint)
        await refused(cloud, stub, store, BundleError, TWO.fingerprint, fingerprint=fingerprint)
    async with serving(turncoat) as (cloud, stub):
        await refused(cloud, stub, store, BundleError, "another manifest")


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ([], "did not begin with a manifest"),
        ([ModelPart()], "did not begin with a manifest"),
        ([ModelPart(manifest_json="{}")], "not understood"),
        ([ModelPart(manifest_json="x" * (1024 * 1024 + 1))], "at most 1048576 are taken"),
    ],
)
async def test_no_manifest_no_bundle(store: BundleStore, first: list, said: str) -> None:
    async def answer(request: GetModelRequest) -> Parts:
        for part in first:
            yield part

    async with serving(answer) as (cloud, stub):
        await refused(cloud, stub, store, BundleError, said)


async def test_a_part_above_the_limit_is_not_taken(store: BundleStore) -> None:
    async def answer(request: GetModelRequest) -> Parts:
        yield ModelPart(manifest_json="x" * (MAX_PART_BYTES + 1))

    async with serving(answer) as (cloud, stub):
        await refused(cloud, stub, store, SpikeBottleNetError, "larger than max")


@pytest.mark.parametrize("after", [0, 1, 2])
async def test_a_silent_cloud_is_given_up(store: BundleStore, after: int) -> None:
    async def answer(request: GetModelRequest) -> Parts:
        parts = [manifest_part(TWO), *WHOLE] if request.files else [manifest_part(TWO)]
        for part in parts[: after if request.files or after == 0 else None]:
            yield part
        if request.files or after == 0:
            await asyncio.Event().wait()

    async with serving(answer) as (cloud, stub):
        patience = Patience(silence_s=1.0)
        await refused(cloud, stub, store, UnavailableError, "nothing for 1 s", patience=patience)


async def test_a_cloud_that_drips_is_given_up(store: BundleStore) -> None:
    async def answer(request: GetModelRequest) -> Parts:
        yield manifest_part(TWO)
        for offset in itertools.count() if request.files else ():
            yield chunk(HEAD_ONNX, offset, b"x")
            await asyncio.sleep(0.01)

    async with serving(answer) as (cloud, stub):
        patience = Patience(silence_s=30.0, whole_s=1.0)
        await refused(cloud, stub, store, UnavailableError, "within 1 s", patience=patience)


async def test_a_cloud_that_is_away_is_unavailable(store: BundleStore) -> None:
    before = store.current
    async with stub_of("127.0.0.1:1") as stub:  # a port that nobody listens on
        with pytest.raises(UnavailableError):
            await fetch_bundle(stub, store)
    assert store.current == before


async def test_a_daemon_starts_with_what_it_has_while_the_cloud_is_away(
    store: BundleStore, tmp_path: Path
) -> None:
    async with stub_of("127.0.0.1:1") as stub:
        assert await bundle_for_start(stub, store) == store.current
        with pytest.raises(UnavailableError):
            await bundle_for_start(stub, BundleStore(tmp_path / "empty"))
        with pytest.raises(UnavailableError):  # another one is no answer
            await bundle_for_start(stub, store, fingerprint=bytes.fromhex(TWO.fingerprint))


async def test_a_daemon_does_not_take_again_what_was_rolled_back(store: BundleStore) -> None:
    async with serving(honest(TWO)) as (_, stub):
        assert (await bundle_for_start(stub, store)).name == TWO.fingerprint
        one = store.rollback(Half.EDGE)
        assert await bundle_for_start(stub, store) == store.current == one
        fingerprint = bytes.fromhex(TWO.fingerprint)
        await bundle_for_start(stub, store, fingerprint=fingerprint)  # unless it is asked for
        assert store.current.name == TWO.fingerprint
        store.rollback(Half.EDGE)
        await fetch_bundle(stub, store)
        assert store.current.name == TWO.fingerprint


async def test_a_cloud_that_dies_midway_is_unavailable(store: BundleStore) -> None:
    async def answer(request: GetModelRequest) -> Parts:
        yield manifest_part(TWO)
        if request.files:
            yield WHOLE[0]
            raise UnavailableError("stopping")

    async with serving(answer) as (cloud, stub):
        await refused(cloud, stub, store, UnavailableError, "stopping")


async def test_bytes_that_are_no_message_are_refused(store: BundleStore) -> None:
    async with grpc_server_of_bytes(b"\xff\xff") as stub:
        with pytest.raises(BundleError, match="no message"):
            await fetch_bundle(stub, store)


@asynccontextmanager
async def grpc_server_of_bytes(data: bytes) -> AsyncIterator[CoInferenceStub]:
    async def answer(request: bytes, context: object) -> AsyncIterator[bytes]:
        yield data

    server = grpc.aio.server()
    method = grpc.unary_stream_rpc_method_handler(answer)  # no serializer: bytes as they are
    service = "spikebottlenet.rpc.v1.CoInference"
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"GetModel": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with stub_of(f"127.0.0.1:{port}") as stub:
            yield stub
    finally:
        await server.stop(None)


async def test_a_fetch_that_is_cancelled_leaves_the_store_free(store: BundleStore) -> None:
    midway = asyncio.Event()

    async def answer(request: GetModelRequest) -> Parts:
        yield manifest_part(TWO)
        if request.files:
            yield WHOLE[0]
            midway.set()
            await asyncio.Event().wait()

    async with serving(answer) as (_, stub):
        fetching = asyncio.create_task(fetch_bundle(stub, store))
        async with asyncio.timeout(30):
            await midway.wait()
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
    assert nothing_left(store)
    assert install(store, TWO) == store.current  # nobody holds its lock
