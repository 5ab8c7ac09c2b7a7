"""The edge's daemon: images in, spikes out to the cloud, answers and accounting back."""

# Before gRPC is loaded: it reads both's variables then.
import spikebottlenet.rpc  # noqa: F401, quiets its core
from spikebottlenet.rpc.poller import choose_poller

choose_poller()
