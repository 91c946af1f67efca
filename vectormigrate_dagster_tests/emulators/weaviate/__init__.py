"""A strict stand-in for a Weaviate server, gRPC and REST, because no package index carries the server itself.

`WeaviateStandIn` is all that tests need. What it covers and what not: docs/stand-ins.md.
"""

from vectormigrate_dagster_tests.emulators.weaviate.server import WeaviateServer, WeaviateStandIn
from vectormigrate_dagster_tests.emulators.weaviate.service import Settings

__all__ = ["Settings", "WeaviateServer", "WeaviateStandIn"]
