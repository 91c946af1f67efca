"""The ownership log: what stood in the target before we wrote, on disk before we write.

A folder per partition. An entry is one file: ids that were absent (`<n>.absent.parquet`), records that we are about
to overwrite (`<n>.before.parquet`), or ids of ours that we are about to write with another content
(`<n>.again.parquet`). A file has its name only when all of it is on disk, so an entry either counts or was never
followed by a write. The first entry for an id wins, over resume and restart too: otherwise, after a crash, our own
records would look like somebody else's.

Beside each id stands the digest of the record that we are about to write, so that a rollback can tell what we wrote
from what somebody has made of it since, without a look at the source.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vectormigrate_dagster.errors import StorageFailed
from vectormigrate_dagster.model import Batch, IdColumn
from vectormigrate_dagster.model.digests import Digests, DigestSet, digests
from vectormigrate_dagster.model.parquet import from_table, ids_of, to_table
from vectormigrate_dagster.model.vectors import Mask

Form = Literal["absent", "before", "again"]

_NAME = re.compile(r"(\d{8})\.(absent|before|again)\.parquet")
_UNFINISHED = ".unfinished"
_RECORD = "record"
"""Column with the digests of the records that were about to be written."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the log says about the records of one batch.

    Args:
        number: counted from 0 within the partition.
        form: "absent" or "before".
        batch: the records that stood there before; of absent ones only the ids.
    """

    number: int
    form: Form
    batch: Batch


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
        self._records = DigestSet()
        self._overwritten = 0
        self._torn: Path | None = None
        self._prepared = False
        self._next = self._load()

    @property
    def overwritten(self) -> int:
        """How many records it holds that stood in the target before."""
        return self._overwritten

    def wrote(self, ids: IdColumn, scope: str | None) -> Mask:
        """Which ids have an entry, so that what stands there now is ours: bool (n,)."""
        with self._lock:
            return self._known.contains(digests(ids, scope))

    def wrote_records(self, records: Digests) -> Mask:
        """Which records, by `record_digests`, are as we were about to write them at some time: bool (n,)."""
        with self._lock:
            return self._records.contains(records)

    def refresh(self) -> None:
        """Take in what another process has recorded since; only for a log that this one does not write."""
        with self._lock:
            self._next = self._load(self._next)

    def record_absent(self, ids: IdColumn, scope: str | None, records: Digests | None = None) -> None:
        """Record, before they are written, ids that the target does not have.

        Args:
            ids: the ids.
            scope: their scope in the target.
            records: digests of what is about to be written; None is unknown.

        Raises:
            StorageFailed: the entry could not be made durable; nothing may be written.
        """
        self._append("absent", _ids_only(ids, scope), records)

    def record_before(self, images: Batch, records: Digests | None = None) -> None:
        """Record, before they are overwritten, records of the target.

        Args:
            images: the records as they stand there.
            records: digests of what is about to be written in their places, in the order of `images`.

        Raises:
            StorageFailed: the entry could not be made durable; nothing may be written.
        """
        self._append("before", images, records)

    def record_again(self, ids: IdColumn, scope: str | None, records: Digests) -> None:
        """Record what is about to be written under ids that have an entry; what is known already costs nothing.

        Raises:
            StorageFailed: the entry could not be made durable; nothing may be written.
        """
        self._append("again", _ids_only(ids, scope), records)

    def absent(self) -> Iterator[Batch]:
        """Yield the ids that were absent, as batches without vectors and payloads."""
        return (entry.batch for entry in self.entries() if entry.form == "absent")

    def before_images(self) -> Iterator[Batch]:
        """Yield the records that stood in the target before we overwrote them."""
        return (entry.batch for entry in self.entries() if entry.form == "before")

    def entries(self, after: int = -1) -> Iterator[Entry]:
        """Yield what stood in the target before, in the order of recording, one entry in memory at a time.

        Args:
            after: number of the last entry that is not wanted any more.
        """
        for path in self._files("absent", "before"):
            if _number(path) > after:
                yield _read(path)

    def newest(self, count: int) -> Iterator[Entry]:
        """Yield the last `count` of `entries`."""
        return map(_read, self._files("absent", "before")[-count:])

    def _append(self, form: Form, batch: Batch, records: Digests | None) -> None:
        with self._lock:
            keys = digests(batch.ids, batch.scope)
            known = (
                self._known.contains(keys) if form != "again" or records is None else self._records.contains(records)
            )
            new = np.flatnonzero(~known)
            if len(new) == 0:
                return
            path = self.folder / f"{self._next:08d}.{form}.parquet"
            try:
                self._prepare()
                _write_durably(path, batch.take(new), None if records is None else records[new])
            except OSError as error:
                raise StorageFailed(
                    f"the ownership log '{self.folder}' refused a write, so nothing was sent: {error}; "
                    "make room and run the migration again"
                ) from error
            self._next += 1
            self._note(form, keys[new], None if records is None else records[new])

    def _note(self, form: Form, keys: Digests, records: Digests | None) -> None:
        self._known.add(keys)
        self._overwritten += len(keys) * (form == "before")
        if records is not None:
            self._records.add(records)

    def _prepare(self) -> None:
        """Before the first write: make the folder and remove what a crash left there."""
        if self._prepared:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for parent in list(self.folder.parents)[:2]:  # those that were just made, too, are to outlive a loss of power
            _sync(parent)
        for left in self.folder.glob(f"*{_UNFINISHED}"):
            left.unlink()
        if self._torn is not None:
            self._torn.unlink(missing_ok=True)
            self._torn = None
        self._prepared = True

    def _load(self, first: int = 0) -> int:
        """Read all entries from a number on; return the number of the next one."""
        paths = [path for path in self._files("absent", "before", "again") if _number(path) >= first]
        for path in paths:
            try:
                keys, records = _read_digests(path)
                self._note(_form(path), keys, records)
            except (pa.ArrowException, ValueError, OSError) as error:
                if path != paths[-1]:
                    raise StorageFailed(
                        f"entry '{path}' of the ownership log is damaged: {error}; without it we cannot tell "
                        "our records from others; restore it, or start with an empty target"
                    ) from error
                # A disk that lost power may keep the name and lose the end. Nothing was sent after such an entry.
                self._torn = path
                return _number(path)
        return _number(paths[-1]) + 1 if paths else first

    def _files(self, *forms: Form) -> list[Path]:
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


def _form(path: Path) -> Form:
    form: Any = path.name.split(".")[1]
    return form  # type: ignore[no-any-return]  # _NAME has matched it


def _read(path: Path) -> Entry:
    with pq.ParquetFile(path) as file:
        batch = from_table(file.read())
    return Entry(number=_number(path), form=_form(path), batch=batch)


def _ids_only(ids: IdColumn, scope: str | None) -> Batch:
    return Batch(ids, scope, payloads=[{}] * len(ids))


def _read_digests(path: Path) -> tuple[Digests, Digests | None]:
    """Digests of an entry's ids, and of what was about to be written under them, if it has those."""
    with pq.ParquetFile(path) as file:
        table = file.read(columns=["id", _RECORD])
    keys = digests(*ids_of(table))
    if _RECORD not in table.column_names:
        return keys, None
    raw: list[Any] = table.column(_RECORD).to_pylist()
    return keys, np.frombuffer(b"".join(raw), dtype="S16")


def _write_durably(path: Path, batch: Batch, records: Digests | None) -> None:
    """Write a file that has its name only once its content and the name are on disk."""
    unfinished = path.with_suffix(_UNFINISHED)
    table = to_table(batch)
    if records is not None:
        column = pa.Array.from_buffers(pa.binary(16), len(records), [None, pa.py_buffer(records.tobytes())])
        table = table.append_column(_RECORD, column)
    pq.write_table(table, unfinished)
    _sync(unfinished)
    unfinished.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
