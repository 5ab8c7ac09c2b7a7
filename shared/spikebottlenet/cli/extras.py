"""Commands that need an extra say which one."""

from collections.abc import Iterator
from contextlib import contextmanager

from spikebottlenet.errors import ConfigError


@contextmanager
def needing_extra(extra: str) -> Iterator[None]:
    """Around imports that only an extra brings.

    Raises:
        ConfigError: names what is missing and how to install it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{error.name} is not installed: pip install 'spikebottlenet[{extra}]'"
        ) from error
