"""The body of a page's request, never more of it in memory than is allowed."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from spikebottlenet.errors import DeadlineError, RequestError, TooLargeError


async def read_body(request: Request, *, max_bytes: int, within_s: float) -> bytes:
    """All of a request's body.

    Raises:
        TooLargeError: longer than ``max_bytes``; nothing of it is read if its header says so.
        DeadlineError: not there within ``within_s`` seconds.
        RequestError: it ended too early, or its length is no number.
    """
    said = request.headers.get("content-length", "0")
    if not said.isdecimal():
        raise RequestError(f"content-length is {said!r}, wanted a number of bytes")
    if int(said) > max_bytes:
        raise _too_large(said, max_bytes)
    parts, length = [], 0
    try:
        async with asyncio.timeout(within_s):
            async for part in request.stream():
                length += len(part)
                if length > max_bytes:
                    raise _too_large(f"{length} or more", max_bytes)
                parts.append(part)
    except TimeoutError:
        raise DeadlineError(
            f"{length} bytes came within {within_s:g} s and not all: send it faster, or smaller"
        ) from None
    except ClientDisconnect:
        raise RequestError(f"the request ended after {length} bytes: send it again") from None
    return b"".join(parts)


def _too_large(found: str, max_bytes: int) -> TooLargeError:
    return TooLargeError(
        f"image is {found} bytes, wanted at most {max_bytes}: shrink it, or raise max_image_bytes"
    )
