"""Run the stand-in by hand: prints its address and key as one line of JSON, ends when its standard input does."""

from __future__ import annotations

import argparse
import json
import sys

from vectormigrate_dagster_tests.emulators.pinecone.server import PineconeStandIn
from vectormigrate_dagster_tests.emulators.pinecone.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=5080)
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON with the fields of settings.Settings")
    arguments = parser.parse_args()
    with PineconeStandIn(Settings(**arguments.settings), port=arguments.port) as server:
        sys.stdout.write(json.dumps({"url": server.url, "api_key": server.api_key}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


main()
