"""The cloud's daemon: frames in, predictions out."""

# Before gRPC is loaded: it reads both's variables then.
import spikebottlenet.rpc  # noqa: F401, quiets its core
from spikebottlenet.rpc.poller import choose_poller

choose_poller()
