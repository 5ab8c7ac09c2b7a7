"""What a page is shown as it happens: snapshots to all who watch, made only while someone does.

Each is one server-sent event (``data: <JSON>``). Who does not read in time loses its place, so that
a slow reader holds a few snapshots and delays nobody.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from spikebottlenet.errors import OverloadedError, UnavailableError
from spikebottlenet.web.ending import ENDING
from spikebottlenet.web.pages.refusal import refusal

Snapshot = Mapping[str, object]

_EVERY_S = 0.5
_SIGN_OF_LIFE_S = 10.0  # when nothing changes
_MAX_VIEWERS = 16
_MAX_UNREAD = 4  # snapshots that wait for one viewer

Viewer = asyncio.Queue[bytes | None]


class Feed:
    """Tells viewers what ``snapshot`` says whenever that is something new."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        *,
        every_s: float = _EVERY_S,
        max_viewers: int = _MAX_VIEWERS,
    ) -> None:
        self._snapshot = snapshot
        self._every_s = every_s
        self._max_viewers = max_viewers
        self._viewers: set[Viewer] = set()
        self._telling: asyncio.Task[None] | None = None
        self._ended = False

    @property
    def viewers(self) -> int:
        """How many watch."""
        return len(self._viewers)

    async def endpoint(self, request: Request) -> Response:
        """``GET``: the stream of events; refused when too many watch already."""
        if len(self._viewers) >= self._max_viewers:
            return refusal(
                OverloadedError(
                    f"{len(self._viewers)} pages watch already: close one, or come again later",
                    retry_after_s=5.0,
                )
            )
        request.scope[ENDING].ends(self.end)
        if self._ended:
            return refusal(UnavailableError("this daemon is stopping: connect again later"))
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        if request.method == "HEAD":
            return Response(media_type="text/event-stream", headers=headers)
        return StreamingResponse(self.events(), media_type="text/event-stream", headers=headers)

    def end(self) -> None:
        """Take no more viewers, and let those that watch go."""
        self._ended = True
        for viewer in list(self._viewers):
            self._end(viewer)

    async def events(self) -> AsyncIterator[bytes]:
        """A snapshot at once, then each that differs, until the viewer goes or falls behind."""
        viewer: Viewer = asyncio.Queue(_MAX_UNREAD)
        viewer.put_nowait(_event(self._snapshot()))
        self._viewers.add(viewer)
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell())
        try:
            while (event := await viewer.get()) is not None:
                yield event
        finally:
            self._viewers.discard(viewer)

    async def _tell(self) -> None:
        """Tell everyone as long as there is anyone."""
        last, said = b"", time.monotonic()
        try:
            while self._viewers:
                await asyncio.sleep(self._every_s)
                event, now = _event(self._snapshot()), time.monotonic()
                if event != last:
                    self._say(event)
                    last, said = event, now
                elif now - said >= _SIGN_OF_LIFE_S:
                    self._say(b": still here\n\n")
                    said = now
        finally:
            self._telling = None
            for viewer in list(self._viewers):  # it failed: they come again
                self._end(viewer)

    def _say(self, event: bytes) -> None:
        for viewer in list(self._viewers):
            try:
                viewer.put_nowait(event)
            except asyncio.QueueFull:
                self._end(viewer)

    def _end(self, viewer: Viewer) -> None:
        self._viewers.discard(viewer)
        while not viewer.empty():
            viewer.get_nowait()
        viewer.put_nowait(None)


def _event(snapshot: Snapshot) -> bytes:
    text = json.dumps(snapshot, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"data: {text}\n\n".encode()
