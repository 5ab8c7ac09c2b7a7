"""A store of bundles: whole or not there, whatever comes and whenever the power fails."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spikebottlenet.bundle import HEAD_ONNX, PRIOR, Bundle, Half, default_bundle, open_bundle
from spikebottlenet.bundle_store import BundleStore
from spikebottlenet.durable_folder import writing
from spikebottlenet.errors import BundleError, StoreError
from spikebottlenet.incoming_bundle import MAX_MANIFEST_BYTES, parse_manifest

Chunks = dict[str, bytes]

_STEPS = """
import sys
from pathlib import Path
from spikebottlenet.bundle import Half
from spikebottlenet.bundle_store import BundleStore
from tests.test_bundle_store import install, renamed

store, step, name = BundleStore(Path(sys.argv[1])), int(sys.argv[2]), sys.argv[3]
count = 0

def killing(kind, arguments):
    global count
    if kind in ("os.rename", "os.symlink", "os.mkdir", "os.remove", "shutil.rmtree", "os.rmdir"):
        count += 1
        if count == step:
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(killing)
store.rollback(Half.EDGE) if name == "rollback" else install(store, renamed(name))
"""


def renamed(name: str) -> Bundle:
    """The shipped bundle under another name: another fingerprint, the same files."""
    bundle = open_bundle(default_bundle(), Half.EDGE)
    return Bundle(bundle.folder, bundle.manifest.model_copy(update={"name": name}))


def files_of(bundle: Bundle) -> Chunks:
    return {name: bundle.path(name).read_bytes() for name in bundle.manifest.files_of(Half.EDGE)}


def install(store: BundleStore, bundle: Bundle, files: Chunks | None = None) -> Path:
    text = bundle.manifest.canonical_json()
    with store.receiving(text, Half.EDGE, fingerprint=bundle.fingerprint) as incoming:
        for name, data in (files_of(bundle) if files is None else files).items():
            for offset in range(0, len(data), 65536):
                incoming.write(name, offset=offset, data=data[offset : offset + 65536])
        return store.install(incoming)


def names(store: BundleStore) -> set[str]:
    return {stored.fingerprint for stored in store.bundles()}


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    return BundleStore(tmp_path / "store")


def test_an_empty_store_has_nothing_and_makes_nothing(store: BundleStore) -> None:
    store.clean()
    assert (store.current, store.previous, store.bundles()) == (None, None, [])
    assert not store.folder.exists()
    with pytest.raises(BundleError, match="no earlier bundle"):
        store.rollback(Half.EDGE)


def test_the_new_bundle_is_current_and_the_old_one_previous(store: BundleStore) -> None:
    one, two = renamed("one"), renamed("two")
    assert install(store, one) == store.current
    assert store.previous is None
    assert install(store, two) == store.current
    assert store.current is not None
    assert store.previous is not None
    assert open_bundle(store.current, Half.EDGE).manifest == two.manifest
    assert open_bundle(store.previous, Half.EDGE).fingerprint == one.fingerprint
    assert open_bundle(store.folder / "current", Half.EDGE).fingerprint == two.fingerprint
    assert store.rollback(Half.EDGE) == store.current
    assert store.current.name == one.fingerprint
    assert store.rollback(Half.EDGE).name == two.fingerprint


def test_the_bundle_left_by_a_rollback_is_known_until_it_is_asked_for(store: BundleStore) -> None:
    one, two = renamed("one"), renamed("two")
    install(store, one)
    install(store, two)
    assert store.left == ""
    store.rollback(Half.EDGE)
    assert store.left == two.fingerprint
    store.rollback(Half.EDGE)
    assert store.left == one.fingerprint
    store.use(two.fingerprint)
    assert store.left == one.fingerprint
    install(store, one)
    assert store.left == ""


def test_a_damaged_current_bundle_leaves_the_previous_one_usable(store: BundleStore) -> None:
    assert store.usable(Half.EDGE) is None
    first = install(store, renamed("one"))
    second = install(store, renamed("two"))
    assert store.usable(Half.EDGE) == second
    (second / PRIOR).unlink()
    assert store.usable(Half.EDGE) == first
    (first / PRIOR).unlink()
    assert store.usable(Half.EDGE) is None


def test_there_is_no_going_back_to_a_damaged_bundle(store: BundleStore) -> None:
    first = install(store, renamed("one"))
    second = install(store, renamed("two"))
    (first / PRIOR).unlink()
    with pytest.raises(BundleError, match="is damaged"):
        store.rollback(Half.EDGE)
    assert store.current == second


def test_the_same_bundle_again_changes_nothing(store: BundleStore) -> None:
    one, two = renamed("one"), renamed("two")
    install(store, one)
    install(store, two)
    install(store, two)
    assert (store.current, store.previous) == (
        store.folder / "bundles" / two.fingerprint,
        store.folder / "bundles" / one.fingerprint,
    )


def test_the_latest_are_kept_and_never_less_than_current_and_previous(tmp_path: Path) -> None:
    bundles = [renamed(str(number)) for number in range(6)]
    store = BundleStore(tmp_path, keep=3)
    for bundle in bundles[:5]:
        install(store, bundle)
    assert names(store) == {bundle.fingerprint for bundle in bundles[2:5]}
    few = BundleStore(tmp_path, keep=1)
    store.use(bundles[2].fingerprint)
    assert store.previous is not None
    assert store.previous.name == bundles[4].fingerprint
    install(few, bundles[5])
    assert names(few) == {bundles[5].fingerprint, bundles[2].fingerprint}


def test_a_clock_that_goes_back_removes_neither_current_nor_previous(tmp_path: Path) -> None:
    store, (one, two, three) = BundleStore(tmp_path, keep=1), map(renamed, "123")
    install(store, one)
    os.utime(store.current or tmp_path, (4e9, 4e9))  # stored in the far future
    install(store, two)
    assert names(store) == {one.fingerprint, two.fingerprint}
    install(store, three)
    assert names(store) >= {two.fingerprint, three.fingerprint}


def test_a_damaged_bundle_is_not_held_and_is_mended(store: BundleStore) -> None:
    one = renamed("one")
    place = install(store, one)
    assert store.holds(one.fingerprint, Half.EDGE)
    (place / PRIOR).write_bytes(b"")
    assert not store.holds(one.fingerprint, Half.EDGE)
    assert install(store, one) == store.current
    assert store.holds(one.fingerprint, Half.EDGE)


@pytest.mark.parametrize("name", ["", "..", "../../x", "A" * 64, "0" * 64])
def test_a_bundle_that_is_not_here_is_not_used(store: BundleStore, name: str) -> None:
    install(store, renamed("one"))
    before = store.current
    assert not store.holds(name, Half.EDGE)
    with pytest.raises(BundleError, match="no bundle"):
        store.use(name)
    assert store.current == before


def nothing_left(store: BundleStore) -> bool:
    return not (store.folder / "bundles" / ".incoming").exists()


def refused(store: BundleStore, files: list[tuple[str, int, bytes]], said: str) -> None:
    """These chunks are refused, with these words, and change nothing."""
    before = (store.current, store.previous, names(store))
    two = renamed("two")

    def receive() -> None:
        with store.receiving(two.manifest.canonical_json(), Half.EDGE) as incoming:
            for name, offset, data in files:
                incoming.write(name, offset=offset, data=data)
            store.install(incoming)

    with pytest.raises(BundleError, match=said):
        receive()
    assert (store.current, store.previous, names(store)) == before
    assert nothing_left(store)


def test_what_does_not_fit_is_refused_and_the_old_bundle_kept(store: BundleStore) -> None:
    install(store, renamed("one"))
    whole = [(name, 0, data) for name, data in files_of(renamed("two")).items()]
    altered = [(name, at, data[:-1] + bytes([data[-1] ^ 1])) for name, at, data in whole[:1]]
    refused(store, whole[:-1], "missing")
    refused(store, [*altered, *whole[1:]], "was altered")
    refused(store, [(HEAD_ONNX, 1, b"x")], "byte 1, wanted 0")
    refused(store, [(HEAD_ONNX, 0, b"xy"), (HEAD_ONNX, 1, b"x")], "byte 1, wanted 2")
    refused(store, [(HEAD_ONNX, 0, b"xy"), (HEAD_ONNX, 0, b"xy")], "byte 0, wanted 2")
    refused(store, [(HEAD_ONNX, 0, b"")], "without bytes")
    refused(store, [*whole, whole[0]], "second time")
    for name in ("tail.safetensors", "../x", "/x", "", "manifest.yaml", "head.onnx/../x"):
        refused(store, [(name, 0, b"x")], "was not asked for")
    small = BundleStore(store.folder, max_bundle_bytes=1000)
    refused(small, [(HEAD_ONNX, at, bytes(100)) for at in range(0, 10_000, 100)], "more than 1000")
    assert (store.folder / "bundles").exists()
    assert not list(store.folder.parent.glob("x"))


def test_what_is_above_the_limit_is_never_written(store: BundleStore, bundle: Bundle) -> None:
    small = BundleStore(store.folder, max_bundle_bytes=1000)
    with small.receiving(bundle.manifest.canonical_json(), Half.EDGE) as incoming:
        incoming.write(HEAD_ONNX, offset=0, data=bytes(1000))
        with pytest.raises(BundleError, match="more than 1000"):
            incoming.write(HEAD_ONNX, offset=1000, data=bytes(1))
        incoming.close()
        assert (incoming.folder / HEAD_ONNX).stat().st_size == 1000


def manifest_with(bundle: Bundle, **values: object) -> str:
    plain = json.loads(bundle.manifest.canonical_json()) | values
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_a_manifest_that_is_not_the_one_asked_for_is_refused(bundle: Bundle) -> None:
    text = bundle.manifest.canonical_json()
    assert parse_manifest(text, fingerprint=bundle.fingerprint) == bundle.manifest
    assert parse_manifest(text).fingerprint == bundle.fingerprint
    with pytest.raises(BundleError, match=bundle.fingerprint):
        parse_manifest(text, fingerprint="0" * 64)
    for other, said in [
        (json.dumps(json.loads(text)), "as this version writes it"),  # spaces
        (text[:-1] + ',"more":1}', "unknown key 'more'"),
        ("", "not understood"),
        ("[]", "wanted a mapping"),
        ("[" * 100_000, "not understood"),
        ('{"name":' + "9" * 10_000 + "}", "not understood"),
        (manifest_with(bundle, name=float("nan")), "NaN is no number"),
        (manifest_with(bundle, files={"\ud800": "x"}), "install a matching version"),
        (manifest_with(bundle, preprocess="x" * 100_000), "not understood"),
        (manifest_with(bundle, name="x" * (MAX_MANIFEST_BYTES + 1)), "at most 1048576"),
    ]:
        with pytest.raises(BundleError, match=said) as refusal:
            parse_manifest(other)
        assert len(str(refusal.value)) < 1000


@pytest.mark.parametrize(
    "name", ["yes", "1.0", "ünï", "a: b\n#c", "\U0001f600", "~", "'\"\\", "\t"]
)
def test_a_manifest_keeps_its_fingerprint_on_the_disk(store: BundleStore, name: str) -> None:
    one = renamed(name)
    assert open_bundle(install(store, one), Half.EDGE).fingerprint == one.fingerprint


def test_a_manifest_that_the_disk_would_alter_is_refused(store: BundleStore) -> None:
    one = renamed("\x85\u2028")  # line breaks to YAML, which may not come back as they were
    try:
        install(store, one)
    except BundleError as error:
        assert "from the disk" in str(error)  # noqa: PT017
        assert store.current is None
    else:
        assert store.holds(one.fingerprint, Half.EDGE)


def test_two_do_not_change_a_store_at_a_time(store: BundleStore, bundle: Bundle) -> None:
    text = bundle.manifest.canonical_json()
    with store.receiving(text, Half.EDGE) as incoming:
        for change in (lambda: store.rollback(Half.EDGE), lambda: store.use("0" * 64)):
            with pytest.raises(StoreError, match="another process"):
                change()
        with pytest.raises(StoreError, match="another process"), store.receiving(text, Half.EDGE):
            pass
        store.clean()  # what another one fills is not its to remove
        assert incoming.folder.is_dir()
    assert nothing_left(store)


@pytest.mark.parametrize("change", ["two", "rollback"])
def test_killed_at_any_step_the_current_bundle_is_whole(tmp_path: Path, change: str) -> None:
    one, two = renamed("one"), renamed("two")
    ready = tmp_path / "ready"
    install(BundleStore(ready), two)
    install(BundleStore(ready), one)
    if change == "two":
        shutil.rmtree(ready / "bundles" / two.fingerprint)
        (ready / "previous").unlink()
    steps = 0
    while True:
        steps += 1
        folder = tmp_path / str(steps)
        shutil.copytree(ready, folder, symlinks=True)
        command = [sys.executable, "-c", _STEPS, str(folder), str(steps), change]
        status = subprocess.run(command, check=False, cwd=Path(__file__).parent.parent).returncode
        store = BundleStore(folder)
        assert store.current is not None
        found = open_bundle(store.current, Half.EDGE).fingerprint
        assert found in (one.fingerprint, two.fingerprint)
        store.clean()
        assert nothing_left(store)
        assert names(store) <= {one.fingerprint, two.fingerprint}
        if status != -signal.SIGKILL:
            assert (status, found) == (0, two.fingerprint)
            break
        if change == "two":  # a second try ends as the first would have
            install(store, two)
            assert store.previous == folder / "bundles" / one.fingerprint
        else:  # and the one that was left is still here, by its name
            store.use(one.fingerprint)
            store.use(two.fingerprint)
        assert store.current == folder / "bundles" / two.fingerprint
    assert steps > (6 if change == "two" else 3)


def test_a_daemon_uses_what_a_person_fetched_as_root(store: BundleStore, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be two users")
    one, two = renamed("one"), renamed("two")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    store.folder.mkdir()
    (store.folder / "bundles").mkdir()
    for folder in (store.folder, store.folder / "bundles"):
        os.chown(folder, 65534, 65534)
    install(store, one)
    install(store, two)
    os.seteuid(65534)
    try:
        assert store.rollback(Half.EDGE).name == one.fingerprint
        store.use(two.fingerprint)
        install(store, renamed("three"))
        assert store.previous == store.folder / "bundles" / two.fingerprint
        with pytest.raises(StoreError, match="daemon's user"):
            install(BundleStore(tmp_path / "another"), one)
    finally:
        os.seteuid(0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one edge half (2 MB) and not for two."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_the_old_bundle(small_disk: Path) -> None:
    store, one, two = BundleStore(small_disk / "store"), renamed("one"), renamed("two")
    install(store, one)
    with pytest.raises(StoreError, match=r"No space left.*free some room"):
        install(store, two)
    assert nothing_left(store)
    assert names(store) == {one.fingerprint}
    assert store.holds(one.fingerprint, Half.EDGE)
    assert store.current == store.folder / "bundles" / one.fingerprint
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match=r"Read-only.*name another folder"):
        install(store, two)
    subprocess.run(["mount", "-o", "remount,rw,size=8m", str(small_disk)], check=True)
    assert install(store, two) == store.current


def test_a_folder_that_cannot_be_one_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"Not a directory.*name another folder"):
        install(BundleStore(tmp_path / "file"), renamed("one"))


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "free some room"),
        (errno.EDQUOT, "free some room"),
        (errno.EACCES, "daemon's user"),
        (errno.EIO, "check the disk"),
    ],
)
def test_what_is_wrong_with_a_disk_says_what_to_do(number: int, said: str) -> None:
    with pytest.raises(StoreError, match=said), writing(Path("/somewhere")):
        raise OSError(number, os.strerror(number))
