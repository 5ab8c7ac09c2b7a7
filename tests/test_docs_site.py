"""The pages as a site: built without a warning, whole, and fetching nothing from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)"""
)
STYLE_FETCHED = re.compile(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_is_built_and_in_the_menu(site: Path) -> None:
    home = (site / "index.html").read_text(encoding="utf-8")
    pages = sorted((ROOT / "docs").rglob("*.md"))
    assert len(pages) > 10
    for page in pages:
        name = page.relative_to(ROOT / "docs").with_suffix("").as_posix()
        address = "." if name == "index" else f"{name}/"
        assert f'href="{address}"' in home, f"add {name}.md to the nav of mkdocs.yml"


def test_no_page_fetches_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert pages
    for page in pages:
        text = page.read_text(encoding="utf-8")
        found = [link for link in FETCHED.findall(text) if 'rel="canonical"' not in link]
        assert not found, f"{page.relative_to(site)}: {found}"
    for style in site.rglob("*.css"):
        found = STYLE_FETCHED.findall(style.read_text(encoding="utf-8"))
        assert not found, f"{style.relative_to(site)}: {found}"


def test_the_reference_has_what_docstrings_say(site: Path) -> None:
    text = (site / "reference" / "codec" / "index.html").read_text(encoding="utf-8")
    assert "pack_frame" in text
    assert "Lay a frame out as bytes" in text
