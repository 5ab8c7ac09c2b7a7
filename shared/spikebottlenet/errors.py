"""Every error that this project raises on purpose: one root, few leaves.

A message says what was found, what was wanted and what to do. ``rpc.status`` holds the one table
that turns these into gRPC status codes and back.
"""


class SpikeBottleNetError(Exception):
    """Root of every error raised on purpose."""


class CorruptFrameError(SpikeBottleNetError):
    """Bytes that are not a frame of this model: wrong version, scheme, shape, length or CRC."""


class BundleError(SpikeBottleNetError):
    """A bundle that is missing, incomplete, altered or not understood."""


class ModelMismatchError(SpikeBottleNetError):
    """Edge and cloud hold different bundles."""


class ImageError(SpikeBottleNetError):
    """A file or byte string that cannot be used as an image."""


class ConfigError(SpikeBottleNetError):
    """A setting that is unknown, of the wrong type or out of range."""


class DataError(SpikeBottleNetError):
    """A data set that cannot be found or read."""


class RequestError(SpikeBottleNetError):
    """A request that breaks the protocol: missing, repeated or contradictory fields."""


class TooLargeError(SpikeBottleNetError):
    """A message or image above a stated limit."""


class OverloadedError(SpikeBottleNetError):
    """No room for another request now; try again in ``retry_after_s``."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreError(SpikeBottleNetError):
    """The durable queue cannot be opened or written: disk full, damaged file, in use."""


class AuthenticationError(SpikeBottleNetError):
    """No token, or one that is not known."""


class UnavailableError(SpikeBottleNetError):
    """The other side cannot be reached, or is draining."""


class DeadlineError(SpikeBottleNetError):
    """No answer came before the deadline."""
