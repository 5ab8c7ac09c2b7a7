"""A page and the files that it is made of, as they were shipped: nothing is built or fetched."""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

# Only what this daemon ships runs or loads, in no frame; the camera is this page's alone.
HEADERS = {
    "content-security-policy": "default-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # asked for again, answered with 304 while it is the same
}


class Asset(NamedTuple):
    """One shipped file."""

    content: bytes
    media_type: str
    etag: str


def page_routes(page: str) -> Sequence[BaseRoute]:
    """``/`` shows the HTML file of this name, ``/assets/`` has what it needs."""

    async def show_page(request: Request) -> Response:
        return _respond(request, page)

    async def show_asset(request: Request) -> Response:
        return _respond(request, request.path_params["name"])

    return [Route("/", show_page), Route("/assets/{name}", show_asset)]


@cache
def shipped_assets() -> dict[str, Asset]:
    """Every file of the pages by its name; a name from outside is only ever looked up here."""
    found = {}
    for file in files("spikebottlenet.web").joinpath("assets").iterdir():
        kind = file.name.rpartition(".")[2]
        if kind in _TYPES:
            content = file.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
            found[file.name] = Asset(content, _TYPES[kind], etag)
    return found


def _respond(request: Request, name: str) -> Response:
    asset = shipped_assets().get(name)
    if asset is None:
        return PlainTextResponse("no such file\n", status_code=404, headers=HEADERS)
    headers = HEADERS | {"etag": asset.etag, "content-type": asset.media_type}
    if request.headers.get("if-none-match") == asset.etag:
        return Response(status_code=304, headers=headers)
    return Response(asset.content, headers=headers)
