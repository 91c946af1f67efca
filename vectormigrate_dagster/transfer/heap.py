"""Keep the process as small as what it holds, however long it works."""

from __future__ import annotations

import ctypes
import gc
from functools import cache

_LARGE = 256 * 2**10
"""Bytes from which on a buffer is given back to the system when it is freed."""

_KEPT = 4 * 2**20
"""Free bytes at the end of a heap that are not given back: the small objects of the next page need them again."""

_ARENAS = 2

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""https://man7.org/linux/man-pages/man3/mallopt.3.html"""


@cache
def keep_heap_small() -> bool:
    """Have glibc return the buffers of pages to the system, where this process uses glibc; return whether it does.

    glibc raises the size from which on it maps a buffer by itself to that of the largest one that was freed (32 MiB at
    most), and keeps a heap per thread. The heaps of a dozen threads, full of holes where pages were, grow with the
    number of records that were moved.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    mapped = mallopt(_M_MMAP_THRESHOLD, _LARGE)
    trimmed = mallopt(_M_TRIM_THRESHOLD, _KEPT)
    few = mallopt(_M_ARENA_MAX, _ARENAS)
    return bool(mapped and trimmed and few)


_YOUNG = 100_000
"""Containers (dictionaries, lists) that are alive since the last look for cycles; pages on their way hold fewer."""


@cache
def look_for_cycles_seldom() -> None:
    """Have Python's cycle collector leave records alone: they hold no cycles, and reference counts free them.

    Its default is to look whenever there are 700 more containers than before, and now and then at all there are, those
    of Dagster and of the clients included: up to a third of the time that a record took.
    https://docs.python.org/3.11/library/gc.html#gc.set_threshold
    """
    gc.set_threshold(_YOUNG)
