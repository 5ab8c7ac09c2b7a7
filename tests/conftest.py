"""What tests share: the shipped bundle, photos, daemons on free ports."""

import importlib.util
import json
import shutil
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import uvloop
import yaml

from spikebottlenet.bundle import Bundle, Half, default_bundle, open_bundle
from spikebottlenet.cli.daemons import Daemon, running_daemon
from tests.crops import crop_photos, write_crops

Start = Callable[..., Daemon]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], AbstractEventLoop]]:
    """All tests have the event loop that the daemons have."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state folder of the tests' own, for every daemon that they start."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("state")
        patch.delenv("STATE_DIRECTORY", raising=False)
        patch.setenv("XDG_STATE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return open_bundle(default_bundle(), Half.LAB)


@pytest.fixture(scope="session")
def spikes(bundle: Bundle) -> np.ndarray:
    shape = bundle.manifest.architecture.spike_shape
    return (np.random.default_rng(0).random(tuple(shape)) < 0.3).astype(np.uint8)


def altered_bundle(folder: Path, **changes: object) -> Path:
    """The shipped bundle with these keys of its manifest changed, so with another fingerprint."""
    shutil.copytree(default_bundle(), folder)
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text())
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest | changes))
    return folder


@pytest.fixture(scope="session")
def other_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped bundle under another name."""
    return altered_bundle(tmp_path_factory.mktemp("bundle") / "other", name="other")


@pytest.fixture(scope="session")
def photo_folder() -> Path:
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "data"


@pytest.fixture(scope="session")
def photo(photo_folder: Path) -> Path:
    return photo_folder / "motorcycle_left.png"


@pytest.fixture(scope="session")
def crops(photo_folder: Path) -> np.ndarray:
    """Square pieces of real photos, uint8 [1000, 32, 32, 3]."""
    return crop_photos(photo_folder, 1000)


@pytest.fixture(scope="session")
def crop_folder(crops: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as 1,000 PNG files."""
    folder = tmp_path_factory.mktemp("crops")
    write_crops(crops, folder)
    return folder


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a daemon: ``start("cloud_node", "--max-batch", "4")``; stopped when the test ends."""
    with ExitStack() as running:
        count = 0

        def start_one(module: str, *arguments: str, listen: str = "127.0.0.1:0") -> Daemon:
            nonlocal count
            count += 1
            log = tmp_path / f"{module}-{count}.log"
            options = ["--listen", listen, "--web-listen", "127.0.0.1:0", *arguments]
            return running.enter_context(running_daemon(module, options, log))

        yield start_one


def log_lines(daemon: Daemon) -> list[dict]:
    """The daemon's log so far."""
    return [json.loads(line) for line in daemon.log.read_text().splitlines()]
