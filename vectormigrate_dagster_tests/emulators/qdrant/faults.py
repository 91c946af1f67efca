"""Faults that tests order: which call of which method goes wrong, and how.

A method has the name that it has over gRPC, on both faces: Upsert, Scroll, Get, Count, Delete, QueryBatch, Search,
CreateCollection, GetCollection, ListCollections, ... (`rest.ROUTES` and `grpc_face.py` use the same names).
"""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vectormigrate_dagster_tests.emulators.qdrant.errors import Kind, Refused

What = Literal[
    "throttle", "unavailable", "reset_before", "reset_after", "delay", "wrong_order", "fail_when_applied", "disk_full"
]

DISK_FULL = "No space left on device: WAL buffer size exceeds available disk space"
"""lib/collection/src/shards/local_shard/shard_ops.rs of server 1.19"""


@dataclass
class Fault:
    """One thing that goes wrong.

    Args:
        what: `throttle` (429, RESOURCE_EXHAUSTED), `unavailable` (503, UNAVAILABLE), `reset_before` and `reset_after`
            (the connection ends before or after the work was done), `delay`, `wrong_order` (a page of a scroll
            comes with its first and last record exchanged), `fail_when_applied` (an acknowledged change with
            wait=false is lost), `disk_full`.
        method: the method; "*" for all.
        nth: the first call that it concerns, from 1 on, counted from when the fault was ordered.
        times: how many calls it concerns; None for all that follow.
        retry_after: seconds, for `throttle`; None sends none.
        seconds: for `delay`.
    """

    what: What
    method: str = "*"
    nth: int = 1
    times: int | None = 1
    retry_after: float | None = None
    seconds: float = 0.0
    seen: int = 0

    def concerns(self, method: str) -> bool:
        """Count a call, and say whether the fault concerns it."""
        if self.method not in ("*", method):
            return False
        self.seen += 1
        return self.seen >= self.nth and (self.times is None or self.seen < self.nth + self.times)


class ConnectionCut(Exception):
    """The connection shall end here, without an answer."""


class Faults:
    """The faults that are ordered, and how often each method was called."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ordered: list[Fault] = []
        self._calls: dict[str, int] = {}

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._ordered.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._ordered.clear()
            self._calls.clear()

    def calls(self) -> dict[str, int]:
        """How often each method was called, refused calls among them."""
        with self._lock:
            return dict(self._calls)

    def ordered(self) -> list[dict[str, Any]]:
        """The faults, in the form of JSON."""
        with self._lock:
            return [asdict(fault) for fault in self._ordered]

    def of(self, method: str) -> list[Fault]:
        """Count a call; the faults that concern it."""
        with self._lock:
            self._calls[method] = self._calls.get(method, 0) + 1
            return [fault for fault in self._ordered if fault.concerns(method)]


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
                raise Refused(Kind.RATE_LIMIT, "Write rate limit exceeded", fault.retry_after)
            case "unavailable":
                raise Refused(Kind.UNAVAILABLE, "the stand-in was told to be unavailable")
            case "disk_full":
                raise Refused(Kind.SERVICE, DISK_FULL)
            case "reset_before":
                raise ConnectionCut


def after(faults: list[Fault]) -> None:
    """Do what the faults of a call ask for after the work.

    Raises:
        ConnectionCut: the connection ends.
    """
    if any(fault.what == "reset_after" for fault in faults):
        raise ConnectionCut


def asks_for(faults: list[Fault], what: What) -> bool:
    return any(fault.what == what for fault in faults)
