"""Run the stand-in as a process: prints its ports as one line of JSON, ends when its standard input does."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading

from vectormigrate_dagster_tests.emulators.weaviate.server import Faces
from vectormigrate_dagster_tests.emulators.weaviate.service import Service, Settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--grpc-port", type=int, default=50051)
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON with the fields of service.Settings")
    arguments = parser.parse_args()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    signal.signal(signal.SIGINT, lambda number, frame: ended.set())
    faces = Faces(Service(Settings(**arguments.settings)), arguments.port, arguments.grpc_port)
    sys.stdout.write(json.dumps({"port": faces.port, "grpc_port": faces.grpc_port}) + "\n")
    sys.stdout.flush()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    ended.wait()
    faces.stop()


main()
