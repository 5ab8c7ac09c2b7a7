"""The body of a page's request, never more of it in memory than is allowed."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from spikebottlenet.errors import DeadlineError, RequestError, TooLargeError

# A body that is too long is read on and thrown away up to so many times the limit: a browser hears
# why only once it has sent all.
_PATIENCE = 4


async def read_body(request: Request, *, max_bytes: int, within_s: float) -> bytes:
    """All of a request's body.

    Raises:
        TooLargeError: longer than ``max_bytes``.
        DeadlineError: not there within ``within_s`` seconds.
        RequestError: it ended too early, or its length is no number.
    """
    said = request.headers.get("content-length", "0")
    if not said.isdecimal():
        raise RequestError(f"content-length is {said!r}, wanted a number of bytes")
    if int(said) > _PATIENCE * max_bytes:
        raise _too_large(said, max_bytes)
    parts: list[bytes] = []
    length = 0
    try:
        async with asyncio.timeout(within_s):
            async for part in request.stream():
                length += len(part)
                if length > _PATIENCE * max_bytes:
                    raise _too_large(f"{length} or more", max_bytes)
                if length > max_bytes:
                    parts.clear()
                else:
                    parts.append(part)
    except TimeoutError:
        raise DeadlineError(
            f"{length} bytes came within {within_s:g} s and not all: send it faster, or smaller"
        ) from None
    except ClientDisconnect:
        raise RequestError(f"the request ended after {length} bytes: send it again") from None
    if length > max_bytes:
        raise _too_large(str(length), max_bytes)
    return b"".join(parts)


def _too_large(found: str, max_bytes: int) -> TooLargeError:
    return TooLargeError(
        f"image is {found} bytes, wanted at most {max_bytes}: shrink it, or raise max_image_bytes"
    )
