"""The ownership log: what stood in the target before we wrote, on disk before we write.

A folder per partition. An entry is one file: ids that were absent (`<n>.absent.parquet`), records that we are about
to overwrite (`<n>.before.parquet`), ids of ours that we are about to write with another content
(`<n>.again.parquet`), or ids under which what stood there still stands because the target refused ours
(`<n>.kept.parquet`): their earlier entry does not count. A file has its name only when all of it is on disk, so an
entry either counts or was never followed by a write. The first entry for an id that counts wins, over resume and
restart too: otherwise, after a crash, our own records would look like somebody else's.

Beside each id stands the digest of the record that we are about to write, so that a rollback can tell what we wrote
from what somebody has made of it since, without a look at the source.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vectormigrate_dagster.errors import StorageFailed
from vectormigrate_dagster.model import Batch, IdColumn
from vectormigrate_dagster.model.digests import Digests, DigestSet, digests, record_digests
from vectormigrate_dagster.model.parquet import from_table, ids_of, to_table
from vectormigrate_dagster.model.vectors import Mask

Form = Literal["absent", "before", "again", "kept"]

_NOT_SENT = "nothing was sent"
_NAME = re.compile(r"(\d{8})\.(absent|before|again|kept)\.parquet")
_UNFINISHED = ".unfinished"
_RECORD = "record"
"""Column with the digests of the records that were about to be written."""

_IMAGE = "image"
"""Column with the digests of the records that stood there."""


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
        self._images = DigestSet()
        self._kept: dict[bytes, int] = {}
        """Ids under which what stood there was kept, with the number of the newest entry that says so."""
        self._stands: set[bytes] = set()
        """Those of them under which it still stands, as far as is known."""
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
            return self._is_ours(digests(ids, scope))

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

    def record_kept(self, found: Batch) -> None:
        """Record that what was to be overwritten still stands, because the target refused ours.

        Args:
            found: records of the target under ids that it refused; those that are no image of `record_before` are ours,
                or somebody's by now, and do not matter.

        Raises:
            StorageFailed: the entry could not be made durable.
        """
        with self._lock:
            still = self._images.contains(record_digests(found)) & self._is_ours(digests(found.ids, found.scope))
            if still.any():
                self._add("kept", _ids_only(found.ids, found.scope).take(np.flatnonzero(still)), {})

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
        return self._counting(path for path in self._files("absent", "before") if _number(path) > after)

    def newest(self, count: int) -> Iterator[Entry]:
        """Yield the last `count` of `entries`."""
        return self._counting(self._files("absent", "before")[-count:])

    def _counting(self, paths: Iterable[Path]) -> Iterator[Entry]:
        """Read entries, without records of somebody else that were never overwritten after all."""
        for path in paths:
            entry = _read(path)
            if self._kept:
                keys = digests(entry.batch.ids, entry.batch.scope).tolist()
                rows = [row for row, key in enumerate(keys) if self._kept.get(key, -1) < entry.number]
                entry = replace(entry, batch=entry.batch.take(rows))
            if len(entry.batch):
                yield entry

    def _append(self, form: Form, batch: Batch, records: Digests | None) -> None:
        with self._lock:
            keys = digests(batch.ids, batch.scope)
            known = self._is_ours(keys) if form != "again" or records is None else self._records.contains(records)
            new = np.flatnonzero(~known)
            if len(new) == 0:
                return
            beside = {} if records is None else {_RECORD: records[new]}
            if form == "before":
                beside[_IMAGE] = record_digests(batch.take(new))
            self._add(form, batch.take(new), beside)

    def _add(self, form: Form, batch: Batch, beside: Mapping[str, Digests]) -> None:
        """Append an entry; the lock is held."""
        path = self.folder / f"{self._next:08d}.{form}.parquet"
        try:
            self._prepare()
            _write_durably(path, batch, beside)
        except OSError as error:
            # Only what the target keeps is known after the batch was sent; it is sent again, and noted then.
            follows = "what the target has refused is noted when it is sent again" if form == "kept" else _NOT_SENT
            raise StorageFailed(
                f"the ownership log '{self.folder}' refused a write, so {follows}: {error}; "
                "make room and run the migration again"
            ) from error
        self._note(path, digests(batch.ids, batch.scope), beside)
        self._next += 1

    def _is_ours(self, keys: Digests) -> Mask:
        """Which ids, by their digests, have an entry that counts: bool (n,)."""
        ours = self._known.contains(keys)
        if self._stands:
            ours &= np.array([key not in self._stands for key in keys.tolist()], dtype=np.bool_)
        return ours

    def _note(self, path: Path, keys: Digests, beside: Mapping[str, Digests]) -> None:
        """Take in an entry."""
        form = _form(path)
        if form == "kept":
            self._kept.update(dict.fromkeys(keys.tolist(), _number(path)))
            self._stands.update(keys.tolist())
            self._overwritten -= len(keys)
            return
        if self._stands:
            self._stands.difference_update(keys.tolist())
        self._known.add(keys)
        self._overwritten += len(keys) * (form == "before")
        for name, digested in ((_RECORD, self._records), (_IMAGE, self._images)):
            if name in beside:
                digested.add(beside[name])

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
        paths = [path for path in self._files("absent", "before", "again", "kept") if _number(path) >= first]
        for path in paths:
            try:
                self._note(path, *_read_digests(path))
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


def _read_digests(path: Path) -> tuple[Digests, dict[str, Digests]]:
    """Digests of an entry's ids, and those that it has beside them, by their columns."""
    with pq.ParquetFile(path) as file:
        names = [name for name in (_RECORD, _IMAGE) if name in file.schema_arrow.names]
        table = file.read(columns=["id", *names])
    beside: dict[str, Digests] = {}
    for name in names:
        raw: list[Any] = table.column(name).to_pylist()
        beside[name] = np.frombuffer(b"".join(raw), dtype="S16")
    return digests(*ids_of(table)), beside


def _write_durably(path: Path, batch: Batch, beside: Mapping[str, Digests]) -> None:
    """Write a file that has its name only once its content and the name are on disk."""
    unfinished = path.with_suffix(_UNFINISHED)
    table = to_table(batch)
    for name, column in beside.items():
        buffers = [None, pa.py_buffer(column.tobytes())]
        table = table.append_column(name, pa.Array.from_buffers(pa.binary(16), len(column), buffers))
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
