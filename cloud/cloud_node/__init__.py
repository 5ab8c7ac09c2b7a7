"""The cloud's daemon: frames in, predictions out."""

import spikebottlenet.rpc  # noqa: F401, before gRPC is loaded: it quiets its core
