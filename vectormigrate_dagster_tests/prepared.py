"""Real commands in processes of their own that have imported already what they need: seconds less for each.

A process is forked from one that runs nothing, and executes the installed script as a shell would have it executed:
with its own words, environment, output and signals. Only the imports are not its own.
"""

from __future__ import annotations

import atexit
import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection

FORKS = multiprocessing.get_context("forkserver")
"""Forks processes from one that has imported `preload`; a test process has but one such."""
FORKS.set_forkserver_preload(["vectormigrate_dagster_tests.preload"])


class Command:
    """A running command, with as much of `subprocess.Popen` as tests use.

    Args:
        words: the script and its arguments.
        environment: all of its variables.
    """

    def __init__(self, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self.args = words
        ours, theirs = zip(*(FORKS.Pipe(duplex=False) for _ in range(2)), strict=True)
        self._process = FORKS.Process(target=_execute, args=(list(words), dict(environment), *theirs))
        self._process.start()
        for end in theirs:
            end.close()  # or the output would not end with the process
        self._outputs = [_Output(end) for end in ours]

    @property
    def pid(self) -> int:
        """Of the command itself."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """How it ended, below 0 by a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """`returncode`."""
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait until it, and whoever inherited its output, has ended; what was printed, and what went wrong.

        Raises:
            subprocess.TimeoutExpired: that took longer than `timeout` seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        out, errors = (output.wait(end) for output in self._outputs)
        self._process.join(None if end is None else max(0.0, end - time.monotonic()))
        if out is None or errors is None or self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return out, errors


class _Output:
    """Reads all that is written into a pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._text = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self, end: float | None) -> str | None:
        """All of it, or None if that has no end by `end`, of `time.monotonic`."""
        self._reader.join(None if end is None else max(0.0, end - time.monotonic()))
        return None if self._reader.is_alive() else self._text.decode()

    def _read(self) -> None:
        with self._pipe:
            while part := os.read(self._pipe.fileno(), 65_536):
                self._text += part


def _execute(words: list[str], environment: dict[str, str], out: Connection, errors: Connection) -> None:
    """Become a command."""
    for number, pipe in ((1, out), (2, errors)):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8", write_through=True)
    sys.stderr = io.TextIOWrapper(
        io.FileIO(2, "w", closefd=False), encoding="utf-8", errors="backslashreplace", write_through=True
    )
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = words
    try:
        runpy.run_path(words[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # a process of multiprocessing ends without them
