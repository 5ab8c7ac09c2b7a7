"""Where a daemon keeps what has to outlive it: its queue, the bundles it fetched.

Under systemd that is ``$STATE_DIRECTORY`` (systemd.exec(5), StateDirectory=), else a folder of
``$XDG_STATE_HOME`` (XDG Base Directory Specification 0.8), else ``~/.local/state/spikebottlenet``.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from spikebottlenet.errors import StoreError

_FOLDER = "spikebottlenet"


def state_dir(environment: Mapping[str, str] | None = None) -> Path:
    """The folder, by the environment; it is not made here.

    Raises:
        StoreError: neither the environment nor the user's entry names a home.
    """
    environment = os.environ if environment is None else environment
    # Several folders may be named, with colons between them; the first is ours.
    if given := environment.get("STATE_DIRECTORY", "").split(":")[0]:
        return Path(given)
    # The specification: a path that is not absolute is to be ignored.
    if (base := Path(environment.get("XDG_STATE_HOME", ""))).is_absolute():
        return base / _FOLDER
    try:
        home = Path(environment["HOME"]) if environment.get("HOME") else Path.home()
    except RuntimeError as error:
        raise StoreError(
            f"no folder for the state: {error}; set STATE_DIRECTORY or XDG_STATE_HOME"
        ) from error
    return home / ".local" / "state" / _FOLDER
