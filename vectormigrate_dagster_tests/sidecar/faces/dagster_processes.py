"""Dagster's webserver and daemon on the home of a workplace, as `vectormigrate ui` starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from vectormigrate_dagster.defs.home import ensure_home
from vectormigrate_dagster_tests.harness import Workplace, environment, until


@contextmanager
def dagster(place: Workplace, port: int) -> Iterator[str]:
    """The address of a webserver whose runs a daemon starts; both end with the block."""
    home = ensure_home(place.home)
    command = [str(Path(sys.prefix) / "bin" / "vectormigrate"), *place.command("ui", "--port", str(port))[1:]]
    with (home / "ui.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment(), start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _serves(url, process, home), seconds=180)
        yield url
    finally:
        # Ctrl-C of a terminal reaches the whole group: webserver, daemon and code server.
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(60)
        finally:
            _end(process.pid)


def _serves(url: str, process: subprocess.Popen[bytes], home: Path) -> bool:
    assert process.poll() is None, (home / "ui.log").read_text()
    try:
        return httpx.get(f"{url}/server_info", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def _end(group: int) -> None:
    """Kill whatever of the group is left."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
