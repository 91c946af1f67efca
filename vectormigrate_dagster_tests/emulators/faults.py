"""What stand-ins share: faults that tests order for calls of a method, and how often each method was called."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar


@dataclass
class Fault:
    """One thing that goes wrong; each stand-in says which there are.

    Args:
        what: its kind.
        method: the method; "*" for all.
        nth: the first call that it concerns, from 1 on, counted from when the fault was ordered.
        times: how many calls it concerns; None for all that follow.
        retry_after: seconds, for `throttle`; None sends none.
        seconds: for `delay`.
    """

    what: str
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


Some = TypeVar("Some", bound=Fault)


def before(ordered: Iterable[Some], refusals: Mapping[str, Callable[[Some], Exception]]) -> None:
    """Do what the faults of a call ask for before the work.

    Args:
        ordered: the faults.
        refusals: what is raised for each kind of fault that refuses the call.

    Raises:
        Exception: one of the refusals.
        ConnectionCut: the connection ends.
    """
    for fault in ordered:
        if fault.what == "delay":
            time.sleep(fault.seconds)
        elif fault.what == "reset_before":
            raise ConnectionCut
        elif fault.what in refusals:
            raise refusals[fault.what](fault)


def after(ordered: Iterable[Fault]) -> None:
    """Do what the faults of a call ask for after the work.

    Raises:
        ConnectionCut: the connection ends.
    """
    if any(fault.what == "reset_after" for fault in ordered):
        raise ConnectionCut


class Faults(Generic[Some]):
    """The faults that are ordered, and how often each method was called."""

    def __init__(self, ordered: Iterable[Some] = ()) -> None:
        self._lock = threading.RLock()
        self._ordered = list(ordered)
        self._calls: dict[str, int] = {}

    def add(self, fault: Some) -> None:
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

    def of(self, method: str) -> list[Some]:
        """Count a call; the faults that concern it."""
        with self._lock:
            self._calls[method] = self._calls.get(method, 0) + 1
            return [fault for fault in self._ordered if fault.concerns(method)]
