"""Large buffers go back to the system as soon as they are freed, where the C library is glibc."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

HELD_AFTER_LARGE_BUFFERS = """
import numpy as np, psutil
from vectormigrate_dagster.transfer.heap import keep_heap_small
assert keep_heap_small()
before = psutil.Process().memory_info().rss
for size in (2, 4, 8, 16):
    pages = [np.ones(size * 2**17) for _ in range(6)]
    kept = [bytes(200_000) for _ in range(20)]  # what would keep a heap from shrinking
    del pages
print((psutil.Process().memory_info().rss - before) // 2**20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_h29_what_was_freed_is_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELD_AFTER_LARGE_BUFFERS], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) < 16
