"""The edge's daemon: images in, spikes out to the cloud, answers and accounting back."""

import spikebottlenet.rpc  # noqa: F401, before gRPC is loaded: it quiets its core
