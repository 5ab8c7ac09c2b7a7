"""Log lines on standard error, one a line, as JSON objects or for people; made in one place.

On the standard library, whose loggers gRPC and asyncio write to as well: structlog's formatter for
those took 72 us a record of ours where this one takes 45 us, and has no more to say. A line is JSON
by pydantic's serializer, in a third of the standard library's time.
"""

import asyncio
import datetime
import json
import logging
import math
import sys
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, TextIO

from pydantic_core import to_json

_FIELDS = "fields"
_JSON = json.JSONEncoder(ensure_ascii=False, default=str)

LogFormat = Literal["json", "console"]


def _as_json(line: Mapping[str, object]) -> str:
    try:
        return to_json(line, fallback=str, bytes_mode="base64").decode()
    except ValueError:  # a name that is no UTF-8, which standard error writes with backslashes
        return _JSON.encode(line)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _iso(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        after = {"exception": self.formatException(record.exc_info)} if record.exc_info else {}
        return "\n".join(_as_json({**line, **said, **after}) for said in _fields_of(record))


class _ConsoleLines(logging.Formatter):
    """``20:15:02.118 info    answered  label=rocket confidence=0.69``, in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        time = _time(record).strftime("%H:%M:%S.%f")[:-3]
        begin = f"{time} {record.levelname.lower():7} {record.getMessage()}"
        lines = [self._with_fields(begin, said) for said in _fields_of(record)]
        if record.exc_info:
            lines.append(self.formatException(record.exc_info))
        return "\n".join(lines)

    def _with_fields(self, begin: str, said: Mapping[str, object]) -> str:
        shown = " ".join(
            f"{name}={_plain(value)}" for name, value in said.items() if value is not None
        )
        return f"{begin}  {shown}" if shown else begin


_FORMATTERS: Mapping[LogFormat, type[logging.Formatter]] = {
    "json": _JsonLines,
    "console": _ConsoleLines,
}


def _time(record: logging.LogRecord) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(record.created, tz=datetime.UTC)


def _iso(created: float) -> str:
    """Such a time in UTC, to the millisecond."""
    second, fraction = divmod(created, 1)
    return f"{_iso_second(int(second))}.{int(1000 * fraction):03d}+00:00"


@lru_cache(maxsize=2)  # lines come many a second
def _iso_second(second: int) -> str:
    return datetime.datetime.fromtimestamp(second, tz=datetime.UTC).isoformat()[:-6]


def _fields_of(record: logging.LogRecord) -> Sequence[Mapping[str, object]]:
    """Those of each line of a record."""
    found: Mapping[str, object] | list[Mapping[str, object]] = getattr(record, _FIELDS, {})
    return found if isinstance(found, list) else [found]


def _plain(value: object) -> str:
    """A value on one line: words as they are, all else as JSON."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and value and value.isprintable() and " " not in value:
        return value
    return _JSON.encode(value)


def fields(**values: object) -> dict[str, dict[str, object]]:
    """The ``extra`` of a log call: values that become keys of its line."""
    return {_FIELDS: values}


class Seldom:
    """Lets what happens over and over be said once a second: it does not fill a disk, nor take the
    time of those that it happens to.
    """

    def __init__(self, quiet_s: float = 1.0) -> None:
        self._quiet_s = quiet_s
        self._unsaid = 0
        self._said_at = -math.inf

    def again(self) -> int:
        """Note that it happened: how often since it was said last, or 0 to say nothing now."""
        self._unsaid += 1
        now = time.monotonic()
        if now - self._said_at < self._quiet_s:
            return 0
        times, self._unsaid, self._said_at = self._unsaid, 0, now
        return times


class Often:
    """Says what happens many times in one turn of an event loop in one record, a line for each: a
    record of its own costs as much as its line.
    """

    def __init__(self, log: logging.Logger, event: str) -> None:
        self._log = log
        self._event = event
        self._unsaid: list[Mapping[str, object]] = []

    def say(self, **values: object) -> None:
        """Have a line with these values, by the end of this turn."""
        if not self._log.isEnabledFor(logging.INFO):
            return
        if not self._unsaid:
            asyncio.get_running_loop().call_soon(self.flush)
        self._unsaid.append(values)

    def flush(self) -> None:
        """Say it now."""
        unsaid, self._unsaid = self._unsaid, []
        if unsaid:
            self._log.info(self._event, extra={_FIELDS: unsaid})


class _Together(logging.StreamHandler[TextIO]):
    """Writes what one turn of an event loop says in one go, and warnings, errors and what is said
    outside of a loop at once.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []
        self._last: logging.LogRecord | None = None
        self._writes_later: asyncio.AbstractEventLoop | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line."""
        try:
            self._lines.append(self.format(record) + self.terminator)
        except Exception:
            self.handleError(record)
            return
        self._last = record
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is None or record.levelno >= logging.WARNING:
            self.flush()
        elif loop is not self._writes_later:
            self._writes_later = loop
            loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what has been said."""
        self.acquire()
        try:
            text, self._lines, self._writes_later = "".join(self._lines), [], None
            if text:
                self.stream.write(text)
                self.stream.flush()
        except Exception:
            if self._last is not None:
                self.handleError(self._last)
        finally:
            self.release()


def start_logging(level: str, form: LogFormat = "json") -> None:
    """Send every logger's lines to standard error. Called once, by a process's ``main``."""
    # No line says where in the code it was written, nor which process or thread wrote it: finding
    # that out costs a third of a line (the logging HOWTO, "Optimization").
    logging._srcfile = None
    logging.logProcesses = logging.logThreads = logging.logMultiprocessing = False
    handler = _Together(sys.stderr)
    handler.setFormatter(_FORMATTERS[form]())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
