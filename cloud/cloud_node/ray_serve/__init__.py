"""The cloud's half on many machines: the same service and the same tails, deployed by Ray Serve."""

import os

# Read when Ray is loaded, and inherited by what it starts. An image is a small request: threads and
# log lines of Ray's own for each would cost more than it does. Nothing here holds up an event loop.
for _name, _value in {
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
}.items():
    os.environ.setdefault(_name, _value)
