"""A stand-in in a process of its own: both ends of what it and its parent say to each other.

The parent gives ports and settings as arguments; the child prints its ports, as one line of JSON, when it listens.
It ends when it is told to, or when its standard input does: so it does not outlive its parent.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vectormigrate_dagster_tests.emulators.faces import Faces


class Child:
    """The parent's end: a child that listens.

    Args:
        module: what is run, with `run` in its `__main__`.
        port, grpc_port: where it listens; 0 for a free port.
        settings: in the form of JSON.

    Raises:
        RuntimeError: it has ended before it listened.
    """

    def __init__(self, module: str, port: int, grpc_port: int, settings: dict[str, Any]) -> None:
        command = [sys.executable, "-m", module, "--port", str(port), "--grpc-port", str(grpc_port)]
        self._process = subprocess.Popen(
            [*command, "--settings", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the stand-in ended at once, with exit code {self._process.wait()}")
        ports = json.loads(line)
        self.port, self.grpc_port = ports["port"], ports["grpc_port"]

    def stop(self) -> None:
        """Let it end in order."""
        self._process.terminate()
        self._ended()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._ended()

    def _ended(self) -> None:
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def run(faces: Callable[[dict[str, Any], int, int], Faces], *, port: int, grpc_port: int) -> None:
    """The child's end: listen until the end.

    Args:
        faces: makes them of settings and two ports.
        port, grpc_port: where to listen if no arguments say it.
    """
    parser = argparse.ArgumentParser(
        description="Run the stand-in as a process: prints its ports as one line of JSON, "
        "ends when its standard input does."
    )
    parser.add_argument("--port", type=int, default=port)
    parser.add_argument("--grpc-port", type=int, default=grpc_port)
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON with the fields of service.Settings")
    arguments = parser.parse_args()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    signal.signal(signal.SIGINT, lambda number, frame: ended.set())
    listening = faces(arguments.settings, arguments.port, arguments.grpc_port)
    sys.stdout.write(json.dumps({"port": listening.port, "grpc_port": listening.grpc_port}) + "\n")
    sys.stdout.flush()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    ended.wait()
    listening.stop()
