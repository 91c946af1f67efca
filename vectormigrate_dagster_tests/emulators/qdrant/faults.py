"""Faults that tests order: which call of which method goes wrong, and how.

A method has the name that it has over gRPC, on both faces: Upsert, Scroll, Get, Count, Delete, QueryBatch, Search,
CreateCollection, GetCollection, ListCollections, ... (`rest.ROUTES` and `grpc_face.py` use the same names).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vectormigrate_dagster_tests.emulators import faults
from vectormigrate_dagster_tests.emulators.qdrant.errors import Kind, Refused

What = Literal[
    "throttle", "unavailable", "reset_before", "reset_after", "delay", "wrong_order", "fail_when_applied", "disk_full"
]

DISK_FULL = "No space left on device: WAL buffer size exceeds available disk space"
"""lib/collection/src/shards/local_shard/shard_ops.rs of server 1.19"""


@dataclass
class Fault(faults.Fault):
    """One thing that goes wrong.

    Args:
        what: `throttle` (429, RESOURCE_EXHAUSTED), `unavailable` (503, UNAVAILABLE), `reset_before` and `reset_after`
            (the connection ends before or after the work was done), `delay`, `wrong_order` (a page of a scroll
            comes with its first and last record exchanged), `fail_when_applied` (an acknowledged change with
            wait=false is lost), `disk_full`.
    """

    what: What


REFUSALS: dict[str, Callable[[Fault], Refused]] = {
    "throttle": lambda fault: Refused(Kind.RATE_LIMIT, "Write rate limit exceeded", fault.retry_after),
    "unavailable": lambda fault: Refused(Kind.UNAVAILABLE, "the stand-in was told to be unavailable"),
    "disk_full": lambda fault: Refused(Kind.SERVICE, DISK_FULL),
}
"""What a call is refused with, by kind of fault."""


def asks_for(ordered: list[Fault], what: What) -> bool:
    return any(fault.what == what for fault in ordered)
