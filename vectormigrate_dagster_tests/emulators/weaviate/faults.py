"""Faults that tests order: which call of which method goes wrong, and how.

Methods have the names of gRPC (Search, BatchObjects, BatchDelete, Aggregate, TenantsGet) or those of `rest.ROUTES`
(CreateClass, GetClass, InsertObject, UpdateTenants, Meta, ...).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from vectormigrate_dagster_tests.emulators.qdrant import faults as qdrant
from vectormigrate_dagster_tests.emulators.qdrant.faults import ConnectionCut
from vectormigrate_dagster_tests.emulators.weaviate.errors import Kind, Refused

What = Literal[
    "throttle",
    "unavailable",
    "reset_before",
    "reset_after",
    "delay",
    "wrong_order",
    "short_page",
    "read_only",
    "refuse",
]

DISK_USAGE = "disk usage too high. Set to read-only at 95.20%, threshold set to 90.00%"


@dataclass
class Fault(qdrant.Fault):
    """One thing that goes wrong.

    Args:
        what: `throttle` (429, RESOURCE_EXHAUSTED), `unavailable` (503, UNAVAILABLE), `reset_before` and `reset_after`
            (the connection ends before or after the work was done), `delay`, `wrong_order` (a page comes with its
            first and last object exchanged), `short_page` (a page comes without its last object), `read_only` (the
            objects of a batch are refused as those of a READONLY shard are), `refuse` (so are those of `ids`).
        method: the method; "*" for all.
        nth: the first call that it concerns, from 1 on, counted from when the fault was ordered.
        times: how many calls it concerns; None for all that follow.
        retry_after: seconds, for `throttle` over HTTP; None sends none.
        seconds: for `delay`.
        ids: for `refuse`.
        message: the server's words, for `refuse`.
    """

    what: What  # type: ignore[assignment]  # other things go wrong here
    ids: tuple[str, ...] = ()
    message: str = "put object: import into non-existing shard"

    def refusal(self, id: str) -> str | None:
        """Why an object of a batch is refused; None if the fault does not concern it."""
        if self.what == "read_only":
            return f"store is read-only due to: {DISK_USAGE}"
        return self.message if self.what == "refuse" and id in self.ids else None


def before(faults: list[Fault]) -> None:
    """Do what the faults of a call ask for before the work.

    Raises:
        Refused: the call is refused.
        ConnectionCut: the connection ends.
    """
    for fault in faults:
        match fault.what:
            case "delay":
                time.sleep(fault.seconds)
            case "throttle":
                raise Refused("429 Too many requests", Kind.THROTTLED, fault.retry_after)
            case "unavailable":
                raise Refused("the stand-in was told to be unavailable", Kind.UNAVAILABLE)
            case "reset_before":
                raise ConnectionCut


def after(faults: list[Fault]) -> None:
    """Do what the faults of a call ask for after the work.

    Raises:
        ConnectionCut: the connection ends.
    """
    if any(fault.what == "reset_after" for fault in faults):
        raise ConnectionCut
