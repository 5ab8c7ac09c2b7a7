"""What files of event-camera recordings are called; by itself, as a client reads none of them."""

RECORDING_SUFFIXES = frozenset({".aedat", ".aedat2", ".aedat3", ".aedat4", ".bin"})
