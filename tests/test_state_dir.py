"""Where the state is kept, by the environment."""

from pathlib import Path

import pytest

from spikebottlenet.state_dir import state_dir


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"STATE_DIRECTORY": "/var/lib/a", "XDG_STATE_HOME": "/x"}, "/var/lib/a"),
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/spikebottlenet"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/spikebottlenet"),
        ({"STATE_DIRECTORY": "", "HOME": "/h"}, "/h/.local/state/spikebottlenet"),
        ({}, str(Path.home() / ".local/state/spikebottlenet")),
    ],
)
def test_the_service_manager_comes_first(environment: dict[str, str], wanted: str) -> None:
    assert state_dir(environment) == Path(wanted)
