"""What an application noted of its own writes, and which value each record may have in the end.

Every writing process appends to a file of its own, before a write is sent and after it was acknowledged, so the notes
outlive a SIGKILL. Times are of the monotonic clock that all processes of a machine share.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Place = tuple[str | None, int]
"""A record: its scope and its number."""


@dataclass(frozen=True)
class Write:
    """One write of one record.

    Args:
        value: what was written; None for a deletion.
        began: before it was sent.
        ended: when it was acknowledged; infinite if nobody knows when, or whether, it happened.
    """

    value: str | None
    began: float
    ended: float = math.inf


class Notes:
    """The file of one writing process; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._numbers = itertools.count()

    def began(self, places: Sequence[Place], value: str | None) -> int:
        """Note a write that is about to be sent; return its number."""
        number = next(self._numbers)
        self._append({"write": number, "places": places, "value": value})
        return number

    def ended(self, number: int) -> None:
        """Note that a write was acknowledged."""
        self._append({"ended": number})

    def _append(self, line: Mapping[str, object]) -> None:
        os.write(self._file, json.dumps({**line, "at": time.monotonic()}).encode() + b"\n")


class History:
    """All writes of an application, by record.

    Args:
        initial: what was there before.
    """

    def __init__(self, initial: Mapping[Place, str]) -> None:
        self._writes: dict[Place, list[Write]] = defaultdict(lambda: [Write(None, -math.inf, -math.inf)])
        self._writes.update((place, [Write(value, -math.inf, -math.inf)]) for place, value in initial.items())
        self.acknowledged = 0
        self.unknown = 0

    @classmethod
    def read(cls, initial: Mapping[Place, str], files: Iterable[Path]) -> History:
        """The history that the notes of all processes tell."""
        history = cls(initial)
        for file in files:
            history._add(file)
        return history

    def _add(self, file: Path) -> None:
        begun: dict[int, tuple[list[Place], str | None, float]] = {}
        ended: dict[int, float] = {}
        for line in file.read_text().splitlines():
            note = json.loads(line)
            if "ended" in note:
                ended[note["ended"]] = note["at"]
            else:
                places = [(scope, number) for scope, number in note["places"]]
                begun[note["write"]] = (places, note["value"], note["at"])
        self.acknowledged += len(ended)
        self.unknown += len(begun) - len(ended)
        for number, (places, value, at) in begun.items():
            for place in places:
                self._writes[place].append(Write(value, at, ended.get(number, math.inf)))

    def possible(self, place: Place) -> set[str | None]:
        """Values that a record may have: of writes that no acknowledged write is known to have followed."""
        writes = self._writes[place]
        last = max(write.began for write in writes if write.ended < math.inf)
        return {write.value for write in writes if write.ended >= last}

    def wrong(self, found: Mapping[Place, str]) -> list[str]:
        """What of a collection no order of the writes explains; empty if all is well."""
        places = sorted(self._writes.keys() | found.keys(), key=str)
        return [
            f"{place} holds {found.get(place)!r}, and only {sorted(map(str, self.possible(place)))} is possible"
            for place in places
            if found.get(place) not in self.possible(place)
        ]

    def of(self, place: Place) -> list[Write]:
        """The writes of a record, the oldest first; for whoever looks into a failure."""
        return sorted(self._writes[place], key=lambda write: write.began)
