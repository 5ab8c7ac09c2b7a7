"""Every command that README and the quickstart show works: it is run here, or by a named test.

Commands are run as the pages write them, in their order. Only addresses are changed, so that a test
finds its ports free, what a reader is to fill in (SERVER), and ``--stay``, which waits for one.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from spikebottlenet.cli.__main__ import app
from tests.free_port import free_port
from tests.page_commands import Command, Session, commands_of, inline_commands

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "quickstart.md")

_TRAINING = "tests/test_lab.py::test_train_makes_a_bundle_that_evaluates_to_what_it_says"
_BASELINES = "tests/test_baselines.py::test_what_is_typed_wrong_is_named"
_REPORT = "tests/test_lab_report.py::test_a_report_is_one_page_that_fetches_nothing"
_PROFILE = "tests/test_plan_command.py::test_a_machine_is_profiled_and_planned_for"
_PLAN = "tests/test_plan_command.py::test_a_plan_in_words_names_the_best_cut"

# What takes a data set or a minute is run by another test, with a small one.
ELSEWHERE = {
    "spikebottlenet evaluate": _TRAINING,
    "spikebottlenet train": _TRAINING,
    "spikebottlenet baselines": _BASELINES,
    "spikebottlenet report": _REPORT,
    "spikebottlenet profile": _PROFILE,
    "spikebottlenet plan": _PLAN,
}

_made: set[str] = set()  # what `make` of another page was run for already


@pytest.fixture
def session(tmp_path: Path, photo: Path) -> Iterator[Session]:
    """A folder with what the pages' commands name."""
    for name in ("photo.jpg", "folder/a.png", "more/deep/b.png", "night/c.jpg", "photos/d.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photo, path)
    camera = tmp_path / "bin" / "camera-grab"
    camera.parent.mkdir()
    camera.write_text("#!/bin/sh\ncat photo.jpg\n")
    camera.chmod(0o755)
    shell = Session(tmp_path)
    yield shell
    shell.close()


def elsewhere(command: Command) -> str | None:
    """The test that runs this command."""
    words = command.text.removeprefix(".venv/bin/").split()
    return ELSEWHERE.get(" ".join(words[:2]))


def prepared(command: Command, session: Session) -> str:
    """The command as it can be run here."""
    text = command.text.replace(".venv/bin/", "").replace(" --stay", "")
    cloud = session.addresses.get("cloud-node", "").replace("0.0.0.0", "localhost")  # noqa: S104
    text = re.sub(r"0\.0\.0\.0:\d+", f"0.0.0.0:{free_port().rpartition(':')[2]}", text)
    text = text.replace("SERVER:50061", cloud).replace("SERVER", "localhost")
    if command.program in ("cloud-node", "edge-node") and "--listen" not in text:
        text += " --listen 127.0.0.1:0"
    if command.program == "edge-node" and "--cloud " not in text:
        text += f" --cloud {cloud}"
    if re.search(r"spikebottlenet (send|results)", text):
        text += f" --edge {session.addresses['edge-node']}"
    return text


def check_extra(text: str) -> None:
    """What ``pip install`` of an extra asks for is pinned, fits, and is what the tests run on."""
    (extra,) = re.findall(r"'\.\[(\w+)\]'", text)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    pins = {name.lower().replace("_", "-"): pin for name, pin in pins.items()}
    for line in (*project["dependencies"], *project["optional-dependencies"][extra]):
        wanted = Requirement(line)
        pin = pins[wanted.name.lower().replace("_", "-")]
        assert wanted.specifier.contains(pin), line
        assert version(wanted.name).split("+")[0] == pin, line


def run_make(text: str, session: Session) -> None:
    """A target's own recipe, with this interpreter's programs and without making them again."""
    if text in _made:
        return
    _made.add(text)
    programs = Path(sys.executable).parent
    target = text.split()[1]
    how = ["make", "-C", str(ROOT), "-o", ".venv/.installed", f"BIN={programs}"]
    said = subprocess.run([*how, "-n", target], capture_output=True, text=True, check=True).stdout
    recipe = [line for line in said.splitlines() if str(programs) in line]
    assert recipe, said
    if target == "test":  # this run is what it does
        assert recipe == [f"{programs}/python -m pytest"]
        return
    for line in recipe:
        session.run(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_the_page_works(page: Path, session: Session) -> None:
    commands = commands_of(page)
    assert len(commands) > 5
    for command in commands:
        if elsewhere(command):
            continue
        if command.program == "pip":
            check_extra(command.text)
        elif command.program == "make":
            run_make(command.text, session)
        elif command.program in ("cloud-node", "edge-node"):
            session.start(command.program, prepared(command, session))
        else:
            assert session.run(prepared(command, session)) or ">" in command.text, command
    session.stop("edge-node")
    session.stop("cloud-node")


def test_what_runs_elsewhere_is_there_and_asked_for() -> None:
    shown = {elsewhere(command) for page in PAGES for command in commands_of(page)}
    assert shown - {None} == set(ELSEWHERE.values())
    for words, named in ELSEWHERE.items():
        path, _, test = named.partition("::")
        text = (ROOT / path).read_text()
        assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), named
        assert f'"{words.split()[1]}"' in text, f"{path} does not run {words}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_named_in_sentences_exist(page: Path) -> None:
    for text in inline_commands(page):
        words = text.split()
        if words[0] == "make":
            targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert {word for word in words[1:] if "=" not in word} <= set(targets), text
            continue
        until = next((i for i, word in enumerate(words) if not word.isalpha()), len(words))
        done = CliRunner().invoke(app, [*words[1 : min(until, 3)], "--help"])
        assert done.exit_code == 0, text


def test_a_command_that_nothing_runs_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Text\n\n    spikebottlenet one \\\n        --two   # says\n    {output: 1}\n")
    (found,) = commands_of(page)
    assert found == Command("page.md", "spikebottlenet one --two")
    assert elsewhere(found) is None
