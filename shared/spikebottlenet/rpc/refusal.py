"""A call that ends with an error: status, and when to try again in both ways that clients know.

RESOURCE_EXHAUSTED carries google.rpc.RetryInfo in ``grpc-status-details-bin`` and the pushback
trailer of gRPC's retry design (proposal A6), so that any gRPC library waits as long as it should.
"""

from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from spikebottlenet.errors import OverloadedError, SpikeBottleNetError
from spikebottlenet.rpc.status import code_number, error_from_status, retry_after_ms, status_code

Metadata = tuple[tuple[str, str | bytes], ...]

_DETAILS = "grpc-status-details-bin"
_PUSHBACK = "grpc-retry-pushback-ms"


def trailers(error: SpikeBottleNetError) -> Metadata:
    """Trailing metadata that says more than status and message do."""
    if not isinstance(error, OverloadedError):
        return ()
    wait_ms = retry_after_ms(error)
    status = Status(code=code_number(error), message=str(error))
    retry = RetryInfo()
    retry.retry_delay.FromMilliseconds(wait_ms)
    status.details.add().Pack(retry)
    return ((_DETAILS, status.SerializeToString()), (_PUSHBACK, str(wait_ms)))


async def refuse(
    context: grpc.aio.ServicerContext[Any, Any], error: SpikeBottleNetError
) -> NoReturn:
    """End a call with an error's status."""
    await context.abort(status_code(error), str(error), trailers(error))


def error_from_call(failed: grpc.aio.AioRpcError) -> SpikeBottleNetError:
    """The error that a failed call stands for, with its time to try again."""
    message = failed.details() or "no reason given"
    wait_ms = 0
    for key, value in failed.trailing_metadata() or ():
        if key == _PUSHBACK and str(value).isdecimal():
            wait_ms = int(value)
        elif key == _DETAILS and isinstance(value, bytes) and not wait_ms:
            wait_ms = _delay_ms(value)
    return error_from_status(failed.code(), message, retry_after_ms=wait_ms)


def _delay_ms(details: bytes) -> int:
    retry = RetryInfo()
    try:
        for detail in Status.FromString(details).details:
            if detail.Unpack(retry):
                return int(retry.retry_delay.ToMilliseconds())
    except DecodeError:
        pass
    return 0
