"""A real Chromium, and two daemons whose pages it opens; skipped where there is no Chromium."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from spikebottlenet.cli.daemons import Daemon, running_daemon

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LINK_WITHIN_MS = 30_000
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", help="folder that screenshots of both pages are written to")


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Until the module ends: its event loop runs in this thread, where other tests have theirs."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no playwright: pip install -c constraints.txt '.[browser]'"
    )
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium on this machine: `make test-browser` installs it")
    with playwright.sync_playwright() as driver:
        # No sandbox: tests in containers run as root, and open nothing but our own pages.
        chromium = driver.chromium.launch(
            executable_path=found,
            args=["--no-sandbox", "--use-fake-device-for-media-stream"],
        )
        yield chromium
        chromium.close()


class Opened:
    """A page of a daemon, everything that it asked for and everything that went wrong in it."""

    def __init__(self, page: "Page") -> None:
        self.page = page
        self.requests: list[str] = []
        self.problems: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", self._hear)

    def _hear(self, message: Any) -> None:
        if message.type == "error":
            self.problems.append(message.text)

    def link(self, state: str) -> str:
        """Wait until the page says this of its link; its words."""
        self.page.wait_for_selector(f'#link[data-state="{state}"]', timeout=LINK_WITHIN_MS)
        return self.text("link")

    def text(self, name: str) -> str:
        return self.page.locator(f"#{name}").inner_text()

    def bars(self, name: str) -> dict[str, str]:
        """Figures of a list of bars, by their keys."""
        rows = self.page.locator(f"#{name} > li").all()
        return {
            str(row.get_attribute("data-key")): row.locator(".value").inner_text() for row in rows
        }

    def answered(self, label: str) -> str:
        """Wait until a prediction is said, in words that begin with this label."""
        said = self.page.locator("#said", has_text=label)
        said.wait_for(state="attached", timeout=LINK_WITHIN_MS)
        return said.inner_text()


Open = Callable[..., Opened]


@pytest.fixture
def visit(browser: "Browser") -> Iterator[Open]:
    """Open a page in a browser of its own: ``visit(edge.web, color_scheme="dark")``."""
    with ExitStack() as contexts:

        def visit_one(url: str, **options: Any) -> Opened:
            context = browser.new_context(**options)
            contexts.callback(context.close)
            opened = Opened(context.new_page())
            opened.page.goto(url + "/")
            return opened

        yield visit_one


class Site:
    """A cloud-node that can go and come back, and an edge-node that stays."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self._folder = folder
        self._running = running
        self._starts = 0
        self.cloud = self.start_cloud("127.0.0.1:0", "127.0.0.1:0")
        self.edge = self._start(
            "edge_node",
            *("--cloud", self.cloud.address, "--web-listen", "127.0.0.1:0"),
            *("--deadline-ms", "30000", "--listen", "127.0.0.1:0"),
        )

    def _start(self, module: str, *options: str) -> Daemon:
        self._starts += 1
        log = self._folder / f"{module}-{self._starts}.log"
        return self._running.enter_context(running_daemon(module, options, log))

    def start_cloud(self, listen: str, web: str) -> Daemon:
        self.cloud = self._start("cloud_node", "--listen", listen, "--web-listen", web)
        return self.cloud

    def restart_cloud(self) -> None:
        """At the same addresses."""
        self.start_cloud(self.cloud.address, self.cloud.web.removeprefix("http://"))


@pytest.fixture(scope="module")
def site(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Both daemons, for all tests that open pages; started only where there is a browser."""
    with ExitStack() as running:
        yield Site(tmp_path_factory.mktemp("site"), running)
