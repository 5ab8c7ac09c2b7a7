"""The one table between this project's errors and gRPC status codes."""

import grpc

from spikebottlenet.errors import (
    AuthenticationError,
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
    StoreError,
    TooLargeError,
    UnavailableError,
)

# In the direction code -> error, the first row with that code counts.
STATUS_CODES: tuple[tuple[type[SpikeBottleNetError], grpc.StatusCode], ...] = (
    (CorruptFrameError, grpc.StatusCode.DATA_LOSS),
    (RequestError, grpc.StatusCode.INVALID_ARGUMENT),
    (ImageError, grpc.StatusCode.INVALID_ARGUMENT),
    (ModelMismatchError, grpc.StatusCode.FAILED_PRECONDITION),
    (OverloadedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (TooLargeError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (AuthenticationError, grpc.StatusCode.UNAUTHENTICATED),
    (StoreError, grpc.StatusCode.ABORTED),
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


def retry_after_ms(error: SpikeBottleNetError) -> int:
    """When to try again, as messages carry it; 0 where trying again is no use."""
    return max(1, round(1e3 * error.retry_after_s)) if isinstance(error, OverloadedError) else 0


def error_from_status(
    code: grpc.StatusCode, message: str, *, retry_after_ms: int = 0
) -> SpikeBottleNetError:
    """The error that a status from the other side stands for."""
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if retry_after_ms:
            return OverloadedError(message, retry_after_s=retry_after_ms / 1e3)
        return TooLargeError(message)
    for kind, known in STATUS_CODES:
        if known == code:
            return kind(message)
    return SpikeBottleNetError(f"{code.name}: {message}")


def error_from_number(number: int, message: str, *, retry_after_ms: int = 0) -> SpikeBottleNetError:
    """The error that a code in a message stands for."""
    for code in grpc.StatusCode:
        if code.value[0] == number:
            return error_from_status(code, message, retry_after_ms=retry_after_ms)
    return SpikeBottleNetError(f"status {number}: {message}")
