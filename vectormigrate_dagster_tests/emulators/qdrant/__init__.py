"""A strict stand-in for a Qdrant server, gRPC and REST, because no package index carries the server itself.

`QdrantStandIn` is all that tests need. What it covers and what not: docs/stand-ins.md.
"""

from vectormigrate_dagster_tests.emulators.qdrant.server import QdrantServer, QdrantStandIn
from vectormigrate_dagster_tests.emulators.qdrant.service import Settings

__all__ = ["QdrantServer", "QdrantStandIn", "Settings"]
