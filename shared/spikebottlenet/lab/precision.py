"""Where forward passes run in bfloat16: where the processor has units for it.

Without them bfloat16 is put together from float32 instructions, which is slower than float32
itself: `spikebottlenet bench train` shows by how much on a machine.
"""

import logging
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import torch

from spikebottlenet.lab.config import Precision
from spikebottlenet.lab.workers import Workers

log = logging.getLogger(__name__)

_CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # x86, x86, ARM


@cache
def has_bfloat16(device_type: str) -> bool:
    """Whether this machine computes in bfloat16 by units of its own."""
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return False
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return bool(_CPU_FLAGS & set(found.split()))


def uses_bfloat16(precision: Precision, device: torch.device) -> bool:
    """What ``auto`` means on this device."""
    if precision == "auto":
        return has_bfloat16(device.type)
    return precision == "bfloat16"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Around a forward pass."""
    enabled = uses_bfloat16(precision, device)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def say_precision(precision: Precision, among: Workers) -> None:
    """Log what forward passes run in, and why."""
    units = "has" if has_bfloat16(among.device.type) else "has no"
    chosen = "bfloat16" if uses_bfloat16(precision, among.device) else "float32"
    log.info(
        "training in %s on %s, which %s bfloat16 units (precision: %s), %d process(es)",
        chosen,
        among.device,
        units,
        precision,
        among.count,
    )
