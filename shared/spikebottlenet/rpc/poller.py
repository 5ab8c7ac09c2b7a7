"""Which of gRPC's two ways of waiting for the network a daemon has.

Its event engine hands each message through one thread more than the poller that it came after: a
tenth of a lone request's time on the link, and some hundredths of a loaded cloud's
(docs/benchmarks.md). gRPC reads the variable when it is loaded. A release that has no such choice
any more says so on standard error and runs as it does.
"""

import os

_EXPERIMENTS = "-event_engine_client,-event_engine_listener"


def choose_poller() -> None:
    """Have the older one, unless whoever runs this process has set gRPC's experiments."""
    os.environ.setdefault("GRPC_EXPERIMENTS", _EXPERIMENTS)
