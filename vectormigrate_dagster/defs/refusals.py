"""The lists of records that were not moved: one JSON object a line, one file for each partition that has some.

Catching up has a file beside them, which is a copy of what the journal tells (`live.journal.verdicts`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from vectormigrate_dagster.databases import Refusal
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.home import CATCH_UP_LIST, migration_folder, refusals_folder
from vectormigrate_dagster.errors import StorageFailed
from vectormigrate_dagster.live.journal import Journal, State
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.model import ScopeKind

Where = tuple[str | None, str]
"""Scope and id of a record in the source, as text."""


def refusals_path(log: MigrationLog, key: str) -> Path:
    """The list of one partition; absent if nothing was refused."""
    return refusals_folder(Path(log.instance.root_directory), log.migration_id) / f"{key}.jsonl"


def vanished_path(log: MigrationLog, key: str) -> Path:
    """The list of what one partition's source listed and could not give; absent if there is nothing such."""
    return refusals_path(log, key).with_name(f"{key}-vanished.jsonl")


def left_path(log: MigrationLog, name: str) -> Path:
    """The list of what a rollback left in the target, of one partition or collection; absent if there is nothing."""
    return migration_folder(log.instance, log.migration_id) / "left" / f"{name}.jsonl"


def catch_up_path(log: MigrationLog) -> Path:
    """The list of what catching up could not make alike, as it was when somebody last caught up from here."""
    return refusals_folder(Path(log.instance.root_directory), log.migration_id) / CATCH_UP_LIST


def read_refusals(path: Path) -> Iterator[Refusal]:
    """Yield the refusals of a list; a last line that a kill has cut is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield Refusal(**json.loads(line))


class LoadLists:
    """Which records the load by a plan could not move, as all of its lists tell; see `live.judging.LoadLists`.

    Args:
        log: whose home has the lists.
        plan: the plan.
    """

    def __init__(self, log: MigrationLog, plan: Plan) -> None:
        self._divided = plan.mapping.source_schema.scope not in (ScopeKind.NONE, ScopeKind.FIELD)
        self._folder = refusals_folder(Path(log.instance.root_directory), log.migration_id)
        self._names = frozenset(
            path.name for key in plan.keys for path in (refusals_path(log, key), vanished_path(log, key))
        )
        self._read: dict[str, tuple[tuple[int, int], frozenset[Where]]] = {}
        self._all: frozenset[Where] = frozenset()

    def __call__(self) -> frozenset[Where]:
        """Scope and id of each, no scope where the source is not divided; a list is read again when it has changed."""
        found: dict[str, tuple[tuple[int, int], frozenset[Where]]] = {}
        for entry in os.scandir(self._folder) if self._folder.exists() else ():
            if entry.name in self._names:
                known, stat = self._read.get(entry.name), entry.stat()
                mark = (stat.st_size, stat.st_mtime_ns)
                same = known if known is not None and known[0] == mark else None
                found[entry.name] = same or (mark, frozenset(self._places(Path(entry.path))))
        if found != self._read:
            self._read = found
            self._all = frozenset().union(*(places for _, places in found.values()))
        return self._all

    def _places(self, path: Path) -> Iterator[Where]:
        return ((refusal.scope if self._divided else None, refusal.id) for refusal in read_refusals(path))


def list_unlike(log: MigrationLog, plan: Plan, journal: Journal) -> None:
    """Copy what catching up could not make alike into a list for people; none if there is nothing.

    Once a migration is completed, the journal has forgotten and the list is all there is: it stays.

    Raises:
        StorageFailed: it cannot be written.
    """
    path = catch_up_path(log)
    lines = [
        {
            "id": verdict.key.text,
            "reason": verdict.reason,
            "scope": verdict.key.scope,
            "outcome": verdict.outcome,
            "at": f"{datetime.fromtimestamp(verdict.at, UTC):%Y-%m-%dT%H:%M:%SZ}",
        }
        for verdict in journal.verdicts(plan.generation).all()
        if not verdict.alike
    ]
    if journal.control().state is State.COMPLETED:  # asked after the journal was read: it was whole until then
        return
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    try:
        if not text:
            path.unlink(missing_ok=True)
        elif _text_of(path) != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.{os.getpid()}.part")  # others may write it too
            part.write_text(text, encoding="utf-8")
            part.replace(path)
    except OSError as error:
        raise StorageFailed(
            f"'{path}' cannot be written: {error.strerror}; make room, then run the same command again"
        ) from error


def _text_of(path: Path) -> str | None:
    """What a list says; None if there is none, or no more: others may be about it."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


class RefusalList:
    """Appends to a list, durably, before the checkpoint that counts what was appended.

    Args:
        path: the list.
        keep: lines that the partition's state counts. What stands behind them was appended after that state, by a
            run that was killed; those records are read again, and refused again if they still must be.
    """

    def __init__(self, path: Path, *, keep: int) -> None:
        self._path = path
        self._keep = keep
        self._trimmed = False

    def append(self, refused: Iterable[Refusal]) -> None:
        """Add refusals.

        Raises:
            StorageFailed: they could not be made durable.
        """
        text = "".join(json.dumps({"id": r.id, "reason": r.reason, "scope": r.scope}) + "\n" for r in refused)
        try:
            self.trim()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageFailed(
                f"'{self._path}' cannot be written: {error.strerror}; make room, then run the same command again"
            ) from error

    def trim(self) -> None:
        """Cut off what the state does not count."""
        if self._trimmed or not self._path.exists():
            self._trimmed = True
            return
        with self._path.open("rb+") as file:
            for _ in range(self._keep):
                file.readline()
            file.truncate(file.tell())
        self._trimmed = True
