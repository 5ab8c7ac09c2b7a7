"""Scheme ``zstd``: the dense bytes through Zstandard, without magic number, size or checksum."""

import zstandard

from spikebottlenet.codec import dense
from spikebottlenet.codec.frame import dense_bytes
from spikebottlenet.codec.sites import Sites
from spikebottlenet.errors import CorruptFrameError

_LEVEL = 19  # payloads are a few hundred bytes: the strongest level costs microseconds


def encode(spikes: Sites) -> bytes:
    """Compress sites [n] of {0, 1}."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_checksum=False,
        write_content_size=False,
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(dense.encode(spikes))


def decode(payload: bytes, sites: int) -> Sites:
    """Decompress at most the bytes that ``sites`` sites need, whatever the payload claims.

    Raises:
        CorruptFrameError: not Zstandard, or not exactly that many bytes.
    """
    wanted = dense_bytes(sites)
    reader = zstandard.ZstdDecompressor(
        format=zstandard.FORMAT_ZSTD1_MAGICLESS, max_window_size=1 << 20
    ).decompressobj(read_across_frames=False)
    try:
        with zstandard.ZstdDecompressor(
            format=zstandard.FORMAT_ZSTD1_MAGICLESS, max_window_size=1 << 20
        ).stream_reader(payload) as stream:
            packed = stream.read(wanted + 1)
        finished = reader.decompress(payload) == packed if len(packed) == wanted else False
    except zstandard.ZstdError as error:
        raise CorruptFrameError(f"payload is not Zstandard ({error}): resend it") from error
    if not finished or not reader.eof or reader.unused_data:
        raise CorruptFrameError(
            f"payload does not decompress to exactly {wanted} bytes for {sites} sites: resend it"
        )
    return dense.decode(packed, sites)
