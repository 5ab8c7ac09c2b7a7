"""Log lines as JSON objects, one a line, on standard error; made in one place."""

import datetime
import json
import logging
import sys
from typing import Any

_FIELDS = "fields"


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, tz=datetime.UTC)
        line: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update(getattr(record, _FIELDS, {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def fields(**values: object) -> dict[str, dict[str, object]]:
    """The ``extra`` of a log call: values that become keys of its line."""
    return {_FIELDS: values}


def start_logging(level: str) -> None:
    """Send every logger's lines to standard error as JSON. Called once, by a process's ``main``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
