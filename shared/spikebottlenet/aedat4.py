"""AEDAT 4 files, unpacked by the library ``aedat`` in a process of its own.

On damaged bytes the library may panic, or abort for want of memory, which ends its process; what a
file unpacks to is known only afterwards. So each file has a process, with bounds on its memory and
time, which takes some 0.1 s.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from spikebottlenet.errors import ConfigError, TooLargeError

_MEMORY_BYTES = 4 << 30  # of addresses, most of them libraries'
_CPU_S = 20
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # each would reserve addresses
_NOT_INSTALLED, _TOO_MANY, _NO_EVENTS = 3, 4, 5  # exit statuses


class Unpacked(NamedTuple):
    """Events, and the camera's size in sites."""

    events: npt.NDArray[Any]  # [N], fields t (microseconds), x, y, on
    width: int
    height: int


def unpack(data: bytes, *, most: int) -> Unpacked:
    """Unpack the bytes of a file of at most so many events.

    Raises:
        ConfigError: the library is not installed.
        TooLargeError: more events.
        ValueError: damaged, or without events.
    """
    with tempfile.NamedTemporaryFile(suffix=".aedat4") as file:  # the library takes paths alone
        file.write(data)
        file.flush()
        done = subprocess.run(  # noqa: S603, our own module by our own interpreter
            [sys.executable, "-m", __name__, file.name, str(most)],
            env=os.environ | _ONE_THREAD,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    match done.returncode:
        case 0:
            said, _, rows = done.stdout.partition(b"\n")
            width, height = json.loads(said)
            return Unpacked(np.load(BytesIO(rows), allow_pickle=False), width, height)
        case code if code == _NOT_INSTALLED:
            raise ConfigError("aedat is not installed: pip install 'spikebottlenet[events]'")
        case code if code == _TOO_MANY:
            raise TooLargeError(
                f"recording has more than {most} events, wanted at most {most}: cut it shorter"
            )
        case code if code == _NO_EVENTS:
            raise ValueError("it has no events")
        case code:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
            raise ValueError(f"its reader ended with status {code} and said: {last[0][:200]}")


def _main(path: Path, most: int) -> int:
    """Write the camera's size and the events to standard output."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        import aedat
    except ModuleNotFoundError:
        return _NOT_INSTALLED
    decoder = aedat.Decoder(path)
    streams = decoder.id_to_stream()
    chosen = next((key for key, about in streams.items() if about["type"] == "events"), None)
    if chosen is None:
        return _NO_EVENTS
    packets, count = list[npt.NDArray[Any]](), 0
    for part in decoder:
        if part["stream_id"] == chosen:
            packets.append(part["events"])
            count += len(packets[-1])
            if count > most:
                return _TOO_MANY
    if not packets:
        return _NO_EVENTS
    about = streams[chosen]
    out = sys.stdout.buffer
    out.write(json.dumps([int(about["width"]), int(about["height"])]).encode() + b"\n")
    np.save(out, np.concatenate(packets), allow_pickle=False)
    out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), int(sys.argv[2])))
