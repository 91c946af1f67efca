"""Faults that tests order: which call of which method goes wrong, and how.

Methods have the names of gRPC (Search, BatchObjects, BatchDelete, Aggregate, TenantsGet) or those of `rest.ROUTES`
(CreateClass, GetClass, InsertObject, UpdateTenants, Meta, ...).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vectormigrate_dagster_tests.emulators import faults
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
class Fault(faults.Fault):
    """One thing that goes wrong.

    Args:
        what: `throttle` (429, RESOURCE_EXHAUSTED), `unavailable` (503, UNAVAILABLE), `reset_before` and `reset_after`
            (the connection ends before or after the work was done), `delay`, `wrong_order` (a page comes with its
            first and last object exchanged), `short_page` (a page comes without its last object), `read_only` (the
            objects of a batch are refused as those of a READONLY shard are), `refuse` (so are those of `ids`).
        ids: for `refuse`.
        message: the server's words, for `refuse`.
    """

    what: What
    ids: tuple[str, ...] = ()
    message: str = "put object: import into non-existing shard"

    def refusal(self, id: str) -> str | None:
        """Why an object of a batch is refused; None if the fault does not concern it."""
        if self.what == "read_only":
            return f"store is read-only due to: {DISK_USAGE}"
        return self.message if self.what == "refuse" and id in self.ids else None


REFUSALS: dict[str, Callable[[Fault], Refused]] = {
    "throttle": lambda fault: Refused("429 Too many requests", Kind.THROTTLED, fault.retry_after),
    "unavailable": lambda fault: Refused("the stand-in was told to be unavailable", Kind.UNAVAILABLE),
}
"""What a call is refused with, by kind of fault."""
