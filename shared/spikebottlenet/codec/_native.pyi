from typing import Any

import numpy.typing as npt
from typing_extensions import Buffer

_Bytes = Buffer | npt.NDArray[Any]  # NumPy's arrays are no Buffer to a type checker before 3.12

class Coder:
    """Tables of scheme ``context``, laid out for coding; used from any thread."""

    def __new__(
        cls, shape: tuple[int, int, int, int], weights: _Bytes, bias: _Bytes, table: _Bytes
    ) -> Coder: ...
    def encode(self, spikes: _Bytes, /) -> bytes: ...
    def decode(
        self, payloads: tuple[bytes, ...], timesteps: int, /
    ) -> tuple[bytearray, bytearray]: ...
