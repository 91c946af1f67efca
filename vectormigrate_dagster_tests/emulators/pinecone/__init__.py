"""A strict stand-in for Pinecone, API 2026-07 over HTTP, because its server cannot be had.

`PineconeStandIn` is all that tests need. What it covers and what not: docs/stand-ins.md.
"""

from vectormigrate_dagster_tests.emulators.pinecone.faults import Fault
from vectormigrate_dagster_tests.emulators.pinecone.server import PineconeServer, PineconeStandIn
from vectormigrate_dagster_tests.emulators.pinecone.settings import Settings

__all__ = ["Fault", "PineconeServer", "PineconeStandIn", "Settings"]
