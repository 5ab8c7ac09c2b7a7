"""An error as the answer to a page: the status of HTTP that says the same as gRPC's."""

import math

import grpc
from starlette.responses import JSONResponse, Response

from spikebottlenet.errors import OverloadedError, SpikeBottleNetError, TooLargeError
from spikebottlenet.rpc.status import status_code

# As google.rpc.Code gives them.
_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


def refusal(error: SpikeBottleNetError) -> Response:
    """The response for an error: its message under ``error``, its gRPC code under ``code``."""
    code = status_code(error)
    status = 413 if isinstance(error, TooLargeError) else _STATUS.get(code, 500)
    headers = {}
    if isinstance(error, OverloadedError):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    return JSONResponse({"error": str(error), "code": code.name}, status, headers)
