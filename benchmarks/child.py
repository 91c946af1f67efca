"""Run a command to its end in a process of its own, and tell what it cost."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from vectormigrate_dagster_tests.harness import environment

_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in the kernel's unit of `ru_maxrss`: https://man7.org/linux/man-pages/man2/getrusage.2.html"""

_STARTER = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[2:])
_, status, used = os.wait4(process.pid, 0)
with open(sys.argv[1], "w") as file:
    json.dump({"cpu": used.ru_utime + used.ru_stime, "memory": used.ru_maxrss}, file)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Starts the command from a small process: until it becomes the command, a child is as large as its parent, and
`ru_maxrss` remembers that."""


@dataclass(frozen=True)
class Used:
    """What a command cost.

    Args:
        seconds: from its start to its end.
        cpu: seconds of user and system time, of its own and of its children.
        memory: greatest resident size of one of its processes, in bytes.
        output: what it printed.
    """

    seconds: float
    cpu: float
    memory: int
    output: str


def run(command: list[str]) -> Used:
    """Run a command; what it prints is kept.

    Raises:
        SystemExit: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "used.json"
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", _STARTER, str(figures), *command],
            capture_output=True,
            text=True,
            env=environment(),
            check=False,
        )
        seconds = time.perf_counter() - began
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        used = json.loads(figures.read_text())
    return Used(seconds, used["cpu"], used["memory"] * _UNIT, done.stdout)
