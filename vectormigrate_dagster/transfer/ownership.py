"""The ownership log: what stood in the target before we wrote, on disk before we write.

A folder per partition. An entry is one file: ids that were absent (`<n>.absent.parquet`) or records that we
are about to overwrite (`<n>.before.parquet`). A file has its name only when all of it is on disk, so an entry
either counts or was never followed by a write. The first entry for an id wins, over resume and restart too:
otherwise, after a crash, our own records would look like somebody else's.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from vectormigrate_dagster.errors import StorageFailed
from vectormigrate_dagster.model import Batch, IdColumn
from vectormigrate_dagster.model.digests import DigestSet, digests
from vectormigrate_dagster.model.parquet import read_batches, write_batches
from vectormigrate_dagster.model.vectors import Mask

_NAME = re.compile(r"(\d{8})\.(absent|before)\.parquet")
_UNFINISHED = ".unfinished"


class OwnershipLog:
    """The log of one partition; safe to use from several threads of one process.

    Args:
        folder: entries that are there count. It is created, and rid of what a crash left, by the first entry that is
            recorded: a log that is only read never changes what another process may be writing.

    Raises:
        StorageFailed: the folder cannot be read, or an entry in it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._known = DigestSet()
        self._torn: Path | None = None
        self._prepared = False
        self._next = self._load()

    def wrote(self, ids: IdColumn, scope: str | None) -> Mask:
        """Which ids have an entry, so that what stands there now is ours: bool (n,)."""
        with self._lock:
            return self._known.contains(digests(ids, scope))

    def record_absent(self, ids: IdColumn, scope: str | None) -> None:
        """Record, before they are written, ids that the target does not have.

        Raises:
            StorageFailed: the entry could not be made durable; nothing may be written.
        """
        self._append("absent", Batch(ids, scope, payloads=[{}] * len(ids)))

    def record_before(self, images: Batch) -> None:
        """Record, before they are overwritten, records of the target.

        Raises:
            StorageFailed: the entry could not be made durable; nothing may be written.
        """
        self._append("before", images)

    def absent(self) -> Iterator[Batch]:
        """Yield the ids that were absent, as batches without vectors and payloads."""
        for path in self._files("absent"):
            yield from read_batches(path)

    def before_images(self) -> Iterator[Batch]:
        """Yield the records that stood in the target before we overwrote them."""
        for path in self._files("before"):
            yield from read_batches(path)

    def _append(self, form: str, batch: Batch) -> None:
        with self._lock:
            keys = digests(batch.ids, batch.scope)
            new = np.flatnonzero(~self._known.contains(keys))
            if len(new) == 0:
                return
            path = self.folder / f"{self._next:08d}.{form}.parquet"
            try:
                self._prepare()
                _write_durably(path, batch.take(new))
            except OSError as error:
                raise StorageFailed(
                    f"the ownership log '{self.folder}' refused a write, so nothing was sent: {error}; "
                    "make room and run the migration again"
                ) from error
            self._next += 1
            self._known.add(keys[new])

    def _prepare(self) -> None:
        """Before the first write: make the folder and remove what a crash left there."""
        if self._prepared:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(f"*{_UNFINISHED}"):
            left.unlink()
        if self._torn is not None:
            self._torn.unlink(missing_ok=True)
            self._torn = None
        self._prepared = True

    def _load(self) -> int:
        """Read all entries; return the number of the next one."""
        paths = self._files("absent", "before")
        for path in paths:
            try:
                for batch in read_batches(path):
                    self._known.add(digests(batch.ids, batch.scope))
            except (pa.ArrowException, ValueError, OSError) as error:
                if path != paths[-1]:
                    raise StorageFailed(
                        f"entry '{path}' of the ownership log is damaged: {error}; without it we cannot tell "
                        "our records from others; restore it, or start with an empty target"
                    ) from error
                # A disk that lost power may keep the name and lose the end. Nothing was sent after such an entry.
                self._torn = path
                return _number(path)
        return _number(paths[-1]) + 1 if paths else 0

    def _files(self, *forms: str) -> list[Path]:
        try:
            paths = list(self.folder.iterdir())
        except FileNotFoundError:
            return []  # nothing was recorded yet
        except OSError as error:
            raise StorageFailed(f"the ownership log '{self.folder}' cannot be opened: {error}") from error
        named = [path for path in paths if (match := _NAME.fullmatch(path.name)) and match[2] in forms]
        return sorted(path for path in named if path != self._torn)


def _number(path: Path) -> int:
    return int(path.name.partition(".")[0])


def _write_durably(path: Path, batch: Batch) -> None:
    """Write a file that has its name only once its content and the name are on disk."""
    unfinished = path.with_suffix(_UNFINISHED)
    write_batches(unfinished, [batch])
    _sync(unfinished)
    unfinished.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
