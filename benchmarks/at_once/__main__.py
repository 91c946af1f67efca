"""Serve until standard input ends; the addresses are printed as one line of JSON.

A page is encoded when it is asked for first and kept, so the first pass over the records is slow and is not to be
measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module

from benchmarks.at_once.records import Records

SERVERS = {
    "qdrant": ("qdrant", "qdrant"),
    "milvus-columns": ("milvus", "columns"),
    "milvus-dynamic": ("milvus", "dynamic"),
    "weaviate": ("weaviate", "weaviate"),
    "pinecone": ("pinecone", "pinecone"),
    "pinecone-rest": ("pinecone", "rest_only"),
}
"""Kind -> module and function, which are imported when they are asked for: each costs a client library."""


def main() -> None:
    """Start the server that is asked for; what the function returns keeps it alive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=tuple(SERVERS))
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=768)
    asked = parser.parse_args()
    module, function = SERVERS[asked.kind]
    start = getattr(import_module(f"benchmarks.at_once.{module}"), function)
    server, addresses = start(Records(asked.records, asked.dim))
    sys.stdout.write(json.dumps(addresses) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop(grace=None)


main()
