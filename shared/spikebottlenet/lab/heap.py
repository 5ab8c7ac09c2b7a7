"""Freed memory kept for the next step, where glibc would give it back to the system.

Each step of a training frees and takes the same gigabytes. glibc maps a block of more than 32 MiB
anew each time, and the kernel fills it with zeros, page by page, which is a fifth of a step on a
processor. Kept, it is the same memory again.
Source: mallopt(3), M_MMAP_MAX and M_TRIM_THRESHOLD.
"""

import ctypes
import platform

_MMAP_MAX, _TRIM_THRESHOLD = -4, -1  # of malloc.h
_NEVER = -1  # as an unsigned size: more than there is


def keep_freed_memory() -> bool:
    """For the rest of this process; whether there was a glibc to tell."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_MMAP_MAX, 0) and libc.mallopt(_TRIM_THRESHOLD, _NEVER))
