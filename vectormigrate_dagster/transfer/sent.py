"""Which ids of the source may have been sent to a collection that is all ours: ranges, a line for each batch.

Such a collection needs no ownership log. What a rollback needs to know of it is how far the load may have come, beyond
the last checkpoint too, because several batches are under way at once. A line is written before its batch is sent, and
is on disk within a second. What a loss of power takes from it is what a rollback leaves alone and names.
"""

from __future__ import annotations

import bisect
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from vectormigrate_dagster.errors import StorageFailed
from vectormigrate_dagster.model import Id, IdColumn, IdKind, id_text
from vectormigrate_dagster.model.vectors import Mask

_SYNC_SECONDS = 1.0


class SentLog:
    """Appends to the file of one partition; safe to use from several threads of one process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._synced = 0.0
        self._whole = False

    def record(self, ids: IdColumn, scope: str | None) -> None:
        """Note ids of the source, ascending, before their records are sent.

        Raises:
            StorageFailed: they could not be written; nothing may be sent.
        """
        if len(ids) == 0:
            return
        ends = {"first": id_text(ids[0]), "last": id_text(ids[len(ids) - 1])}
        line = json.dumps({"kind": ids.kind.value, "scope": scope, **ends})
        try:
            with self._lock:
                self._append(f"{line}\n")
        except OSError as error:
            raise StorageFailed(
                f"'{self._path}' cannot be written, so nothing was sent: {error.strerror}; make room, then run the "
                "migration again"
            ) from error

    def _append(self, line: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            # A line that a crash or a full disk has cut ends here: what it would have told of was not sent.
            lines = b"\n" * (not self._ends_whole()) + line.encode()
            self._whole = False
            file.write(lines)
            file.flush()
            self._whole = True
            if time.monotonic() - self._synced >= _SYNC_SECONDS:
                os.fsync(file.fileno())
                self._synced = time.monotonic()

    def _ends_whole(self) -> bool:
        if self._whole or self._path.stat().st_size == 0:
            return True
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"


class SentRanges:
    """What the files of a migration say, those of earlier generations too."""

    def __init__(self, paths: Iterable[Path]) -> None:
        found: dict[tuple[IdKind, str | None], list[tuple[Any, Any]]] = defaultdict(list)
        for path in paths:
            for line in path.read_text(encoding="utf-8").splitlines():
                kind, scope, first, last = _parsed(line)
                if kind is not None:
                    found[kind, scope].append((kind.decode(first), kind.decode(last)))
        self._ranges = {key: _merged(ranges) for key, ranges in found.items()}

    def contains(self, ids: IdColumn, scope: str | None) -> Mask:
        """Which ids of the source may have been sent: bool (n,)."""
        ranges = self._ranges.get((ids.kind, scope), [])
        return np.fromiter((_within(ranges, value) for value in ids.to_pylist()), dtype=np.bool_, count=len(ids))

    def __bool__(self) -> bool:
        return bool(self._ranges)


def _parsed(line: str) -> tuple[IdKind | None, str | None, str, str]:
    """Kind, scope, first and last id of a line; no kind if a crash has cut it."""
    try:
        found = json.loads(line)
    except ValueError:
        return None, None, "", ""
    return IdKind(found["kind"]), found["scope"], found["first"], found["last"]


def _merged(ranges: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """The same ranges in ascending order, without those that lie over each other."""
    merged: list[tuple[Any, Any]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def _within(ranges: list[tuple[Any, Any]], value: Id) -> bool:
    at = bisect.bisect_right(ranges, value, key=lambda both: both[0]) - 1
    return at >= 0 and bool(value <= ranges[at][1])
