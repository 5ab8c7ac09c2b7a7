"""The contract on the wire: servers, channels, and who gets in.

gRPC's core writes a line to standard error for each handshake that fails, so strangers could fill a
disk, and it is not JSON. It reads the variable when it is loaded: whoever wants those lines sets
GRPC_VERBOSITY=info.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "error")
