"""The list of records that were not moved: one JSON object a line, one file for each partition that has some."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from vectormigrate_dagster.databases import Refusal
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.home import migration_folder, refusals_folder
from vectormigrate_dagster.errors import StorageFailed


def refusals_path(log: MigrationLog, key: str) -> Path:
    """The list of one partition; absent if nothing was refused."""
    return refusals_folder(Path(log.instance.root_directory), log.migration_id) / f"{key}.jsonl"


def vanished_path(log: MigrationLog, key: str) -> Path:
    """The list of what one partition's source listed and could not give; absent if there is nothing such."""
    return refusals_path(log, key).with_name(f"{key}-vanished.jsonl")


def left_path(log: MigrationLog, name: str) -> Path:
    """The list of what a rollback left in the target, of one partition or collection; absent if there is nothing."""
    return migration_folder(log.instance, log.migration_id) / "left" / f"{name}.jsonl"


def read_refusals(path: Path) -> Iterator[Refusal]:
    """Yield the refusals of a list; a last line that a kill has cut is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield Refusal(**json.loads(line))


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
