"""What cloud-only sends: an image file of the network's size, or so many bytes."""

from spikebottlenet.errors import ConfigError
from spikebottlenet.plan.machines import Profiles
from spikebottlenet.plan.placements import Source

_ENCODINGS = {"jpeg": "JPEG q75", "png": "PNG", "webp": "WebP q80"}


def find_source(text: str, profiles: Profiles) -> Source:
    """From what a user types: ``jpeg``, ``png``, ``webp``, or a size in bytes.

    Files are as measured on the profile's images, resized first as a sensible client does.

    Raises:
        ConfigError: none of these.
    """
    edge, _ = profiles.sides()
    if text.isdecimal() and int(text) > 0:
        return Source(f"{text} bytes", int(text), 0.0)
    wanted = _ENCODINGS.get(text.lower())
    for file in edge.files:
        if file.name == wanted:
            return Source(file.name, file.bytes_mean, file.time.median)
    raise ConfigError(
        f"found --source-bytes {text!r}, wanted one of {', '.join(_ENCODINGS)}, or a size in bytes"
    )
