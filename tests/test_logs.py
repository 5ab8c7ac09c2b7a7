"""Log lines: one a line in both forms, whatever is said."""

import asyncio
import io
import json
import logging

import pytest

from spikebottlenet.logs import LogFormat, Often, Seldom, fields, start_logging


@pytest.fixture
def root():
    """The root logger, given back as it was."""
    logger = logging.getLogger()
    before = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:], level = before
    logger.setLevel(level)


def said(capsys: pytest.CaptureFixture[str], form: LogFormat) -> list[str]:
    start_logging("info", form)
    log = logging.getLogger("some.module")
    log.debug("not said")
    log.info("answered", extra=fields(label="ice cream", ms=1.23456789, top=[1, 2], none=None))
    log.warning("two\nlines" if form == "json" else "plain")
    return capsys.readouterr().err.splitlines()


def test_json_lines_hold_every_field(root, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (json.loads(line) for line in said(capsys, "json"))
    assert first | {"time": ""} == {
        "time": "",
        "level": "info",
        "logger": "some.module",
        "event": "answered",
        "label": "ice cream",
        "ms": 1.23456789,
        "top": [1, 2],
        "none": None,
    }
    assert (second["level"], second["event"]) == ("warning", "two\nlines")


def test_console_lines_are_short(root, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = said(capsys, "console")
    assert first[12:] == ' info    answered  label="ice cream" ms=1.23457 top=[1, 2]'
    assert second[12:] == " warning plain"


@pytest.mark.parametrize("form", ["json", "console"])
async def test_what_is_no_utf8_costs_no_line(
    root, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: LogFormat
) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    monkeypatch.setattr("sys.stderr", out)  # as a process's own is
    start_logging("info", form)
    often = Often(logging.getLogger("some.module"), "answered")
    for label in ("cup", "\udcff", "clock"):
        often.say(label=label)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    lines = out.buffer.getvalue().decode().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 3
    assert [word in line for word, line in zip(("cup", "udcff", "clock"), lines, strict=True)] == [
        True
    ] * 3


async def test_lines_of_one_turn_of_the_loop_are_written_together_and_warnings_at_once(
    root, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    written: list[str] = []
    monkeypatch.setattr("sys.stderr", Stream())
    start_logging("info", "json")
    log = logging.getLogger("some.module")
    for number in range(3):
        log.info("said %d", number)
    assert written == []
    await asyncio.sleep(0)
    assert [len(text.splitlines()) for text in written] == [3]
    log.info("before")
    log.warning("now")
    assert [json.loads(line)["event"] for line in written[1].splitlines()] == ["before", "now"]
    await asyncio.to_thread(log.info, "from a thread")
    assert [json.loads(line)["event"] for line in written[2:]] == ["from a thread"]
    log.info("last")
    logging.getLogger().handlers[0].flush()  # as at the end of a process
    assert json.loads(written[3])["event"] == "last"
    await asyncio.sleep(0)
    assert len(written) == 4


@pytest.mark.parametrize("form", ["json", "console"])
async def test_what_happens_often_is_one_record_and_a_line_each(
    root, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], form: LogFormat
) -> None:
    start_logging("info", form)
    root.addHandler(caplog.handler)
    often = Often(logging.getLogger("some.module"), "answered")
    for number in range(3):
        often.say(number=number)
    await asyncio.sleep(0)  # said
    await asyncio.sleep(0)  # written
    often.say(number=3)
    often.flush()  # as at the end of a process
    root.handlers[0].flush()
    assert len(caplog.records) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    for number, line in enumerate(lines):
        if form == "json":
            assert json.loads(line)["number"] == number
        else:
            assert line.endswith(f"answered  number={number}")
    start_logging("warning", form)
    often.say(number=4)
    await asyncio.sleep(0)
    assert capsys.readouterr().err == ""


def test_what_happens_over_and_over_is_said_seldom_and_counted(monkeypatch) -> None:
    now = 5.0
    monkeypatch.setattr("spikebottlenet.logs.time.monotonic", lambda: now)
    seldom = Seldom(quiet_s=1.0)
    assert [seldom.again() for _ in range(4)] == [1, 0, 0, 0]
    now = 5.9
    assert seldom.again() == 0
    now = 6.0
    assert seldom.again() == 5
    now = 60.0
    assert seldom.again() == 1
