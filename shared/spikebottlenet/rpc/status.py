"""The one table between this project's errors and gRPC status codes."""

import grpc

from spikebottlenet.errors import (
    BundleError,
    ConfigError,
    CorruptFrameError,
    DataError,
    DeadlineError,
    ImageError,
    ModelMismatchError,
    OverloadedError,
    RequestError,
    SpikeBottleNetError,
    TooLargeError,
    UnavailableError,
)

# In the direction code -> error, the first row with that code counts.
STATUS_CODES: tuple[tuple[type[SpikeBottleNetError], grpc.StatusCode], ...] = (
    (CorruptFrameError, grpc.StatusCode.DATA_LOSS),
    (RequestError, grpc.StatusCode.INVALID_ARGUMENT),
    (ImageError, grpc.StatusCode.INVALID_ARGUMENT),
    (ModelMismatchError, grpc.StatusCode.FAILED_PRECONDITION),
    (TooLargeError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (OverloadedError, grpc.StatusCode.UNAVAILABLE),
    (DeadlineError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (BundleError, grpc.StatusCode.NOT_FOUND),
    (ConfigError, grpc.StatusCode.INTERNAL),
    (DataError, grpc.StatusCode.INTERNAL),
)


def status_code(error: SpikeBottleNetError) -> grpc.StatusCode:
    """The status code that says this error to the other side."""
    for kind, code in STATUS_CODES:
        if isinstance(error, kind):
            return code
    return grpc.StatusCode.UNKNOWN


def code_number(error: SpikeBottleNetError) -> int:
    """The same as the number that stands in messages."""
    return int(status_code(error).value[0])


def error_from_status(code: grpc.StatusCode, message: str) -> SpikeBottleNetError:
    """The error that a status from the other side stands for."""
    for kind, known in STATUS_CODES:
        if known == code:
            return kind(message)
    return SpikeBottleNetError(f"{code.name}: {message}")


def error_from_number(number: int, message: str) -> SpikeBottleNetError:
    """The error that a code in a message stands for."""
    for code in grpc.StatusCode:
        if code.value[0] == number:
            return error_from_status(code, message)
    return SpikeBottleNetError(f"status {number}: {message}")
