"""Faults that tests order: which call of which method goes wrong, and how.

A method has the name that it has over gRPC (Upsert, Query, Fetch, List, ...), with `Documents` behind it for the
documents API (UpsertDocuments, ...); those of the control plane are CreateIndex, DescribeIndex, ...: see `routes.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from vectormigrate_dagster_tests.emulators import faults
from vectormigrate_dagster_tests.emulators.pinecone.errors import Kind, Refused, invalid

What = Literal[
    "throttle", "unavailable", "reset_before", "reset_after", "delay", "short_page", "omit", "reject", "expired_token"
]


@dataclass
class Fault(faults.Fault):
    """One thing that goes wrong.

    Args:
        what: `throttle` (429), `unavailable` (503), `reset_before` and `reset_after` (the connection ends before or
            after the work was done), `delay`, `short_page` (a list holds at most `records` ids and a token although
            more follow; 0 for an empty page with a token), `omit` (a fetch leaves `ids` out, each of them `times`
            times, as if it had not heard of them), `reject` (a write that holds one of `ids` is refused as a whole,
            without a word on which), `expired_token` (a list refuses any token).
        records: for `short_page`.
        ids: for `omit` and `reject`.
    """

    what: What
    records: int = 0
    ids: tuple[str, ...] = ()

    def concerns(self, method: str) -> bool:
        """Count a call, and say whether the fault concerns it; omissions are counted by id, not by call."""
        return self.method in ("*", method) if self.what == "omit" else super().concerns(method)


REFUSALS: dict[str, Callable[[Fault], Refused]] = {
    "throttle": lambda fault: Refused(Kind.THROTTLED, "Too many requests.", fault.retry_after),
    "unavailable": lambda fault: Refused(Kind.UNAVAILABLE, "The service is currently unavailable."),
}
"""What a call is refused with, by kind of fault."""


class Ordered:
    """The faults that concern one call."""

    def __init__(self, ordered: list[Fault], omissions: Counter[str]) -> None:
        self._faults = ordered
        self._omissions = omissions

    def before(self) -> None:
        """Do what they ask for before the work.

        Raises:
            Refused: the call is refused.
            ConnectionCut: the connection ends.
        """
        faults.before(self._faults, REFUSALS)

    def after(self) -> None:
        """Do what they ask for after the work.

        Raises:
            ConnectionCut: the connection ends.
        """
        faults.after(self._faults)

    def page(self, limit: int) -> int:
        """How many ids a page may hold."""
        return min([limit, *(fault.records for fault in self._faults if fault.what == "short_page")])

    def check_token(self) -> None:
        """Refuse a token, if that was ordered."""
        if any(fault.what == "expired_token" for fault in self._faults):
            raise invalid("Invalid pagination token")

    def check_ids(self, ids: Iterable[str]) -> None:
        """Refuse a write that holds one of the ids that were named."""
        bad = {each for fault in self._faults if fault.what == "reject" for each in fault.ids}
        if bad and not bad.isdisjoint(ids):
            raise invalid("Invalid request: at least one record could not be processed")

    def omits(self, id: str) -> bool:
        """Whether a fetch shall leave an id out, which counts as one of the times that were ordered."""
        for fault in self._faults:
            if fault.what == "omit" and id in fault.ids:
                self._omissions[id] += 1
                if fault.times is None or self._omissions[id] <= fault.times:
                    return True
        return False


class Faults(faults.Faults[Fault]):
    """The faults that are ordered, and how often each method and each path was called."""

    def __init__(self, ordered: Iterable[Fault] = ()) -> None:
        super().__init__(ordered)
        self._omissions: Counter[str] = Counter()
        self._paths: Counter[str] = Counter()

    def add(self, fault: Fault) -> None:
        with self._lock:
            super().add(fault)
            if fault.what == "omit":
                for each in fault.ids:
                    self._omissions.pop(each, None)

    def clear(self) -> None:
        with self._lock:
            super().clear()
            self._omissions.clear()
            self._paths.clear()

    def paths(self) -> dict[str, int]:
        """How often each path was called, like "GET /vectors/list", of all indexes together."""
        with self._lock:
            return dict(self._paths)

    def of_call(self, method: str, path: str) -> Ordered:
        """Count a call; the faults that concern it."""
        with self._lock:
            self._paths[path] += 1
            return Ordered(self.of(method), self._omissions)
