"""The mismatch file: everything that a validation found wrong, one row per finding, as Parquet.

A report shows the first few findings; `repair` needs all of them. A file has its name only once it is whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vectormigrate_dagster.model import IdColumn, IdKind
from vectormigrate_dagster.model.digests import Digests, DigestSet, digests

_ROWS = 4096
"""Rows that are held until they are written, and rows that are read at a time."""

_UNFINISHED = ".unfinished"


class MismatchKind(StrEnum):
    """What is wrong with a record of the target."""

    MISSING = "missing"
    EXTRA = "extra"
    DIFFERENT = "different"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """One finding.

    Args:
        kind: what is wrong.
        id, id_kind, scope: the record in the target; the id in text form, the kind as in `IdKind`.
        source_id, source_id_kind, source_scope: the record in the source that was to become it; None if unknown.
        where: "record", "vector 'v'" or "field 'a'".
        expected, actual, detail: text for people.
        promised_digest, found_digest: `record_digests` of what was promised and of what is there, 16 bytes; None if
            there is no such record, or it was not looked at.
    """

    kind: MismatchKind
    id: str
    id_kind: str
    where: str
    expected: str
    actual: str
    scope: str | None = None
    detail: str = ""
    source_scope: str | None = None
    source_id: str | None = None
    source_id_kind: str | None = None
    promised_digest: bytes | None = None
    found_digest: bytes | None = None


_TEXT, _DIGEST = pa.string(), pa.binary(16)
_COLUMNS: dict[str, pa.DataType] = {
    "kind": _TEXT,
    "scope": _TEXT,
    "id": _TEXT,
    "id_kind": _TEXT,
    "source_scope": _TEXT,
    "source_id": _TEXT,
    "source_id_kind": _TEXT,
    "where": _TEXT,
    "expected": _TEXT,
    "actual": _TEXT,
    "detail": _TEXT,
    "promised_digest": _DIGEST,
    "found_digest": _DIGEST,
}
_SCHEMA = pa.schema(_COLUMNS)


class MismatchWriter:
    """Writes findings to one file in bounded memory; the file appears when the writer is closed without an error.

    Args:
        path: the file; its folder is created, and a file that is there is replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._waiting: list[dict[str, Any]] = []
        self._unfinished = path.with_name(path.name + _UNFINISHED)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = pq.ParquetWriter(self._unfinished, _SCHEMA)

    def add(self, found: Iterable[Mismatch]) -> None:
        """Write findings, in the order of the file."""
        for mismatch in found:
            self._waiting.append(asdict(mismatch))
            self.count += 1
            if len(self._waiting) >= _ROWS:
                self._flush()

    def close(self) -> None:
        """Write what is waiting and give the file its name."""
        self._flush()
        self._file.close()
        self._unfinished.replace(self.path)

    def discard(self) -> None:
        """End without a file."""
        self._file.close()
        self._unfinished.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.discard()

    def _flush(self) -> None:
        if self._waiting:
            self._file.write_table(pa.Table.from_pylist(self._waiting, schema=_SCHEMA))
            self._waiting = []


@contextmanager
def listed(path: Path) -> Iterator[MismatchWriter]:
    """A writer whose file stays only if the block ends well and something was found; an older one goes in any case."""
    writer = MismatchWriter(path)
    try:
        yield writer
    except BaseException:
        writer.discard()
        raise
    if writer.count:
        writer.close()
    else:
        writer.discard()
        path.unlink(missing_ok=True)


def read_mismatches(path: Path) -> Iterator[Mismatch]:
    """Yield the findings of a mismatch file, or of all in a folder in the order of their names.

    Raises:
        FileNotFoundError: there is neither.
    """
    for file in sorted(path.glob("*.parquet")) if path.is_dir() else [path]:
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(_ROWS):
                for row in batch.to_pylist():
                    yield Mismatch(**{**row, "kind": MismatchKind(row["kind"])})


def id_digests(found: Iterable[Mismatch]) -> Digests:
    """One digest for the id of each finding in the target, the one that `digests` gives for it."""
    columns = ((IdColumn.of(kind, [kind.decode(one.id)]), one.scope) for one in found for kind in [IdKind(one.id_kind)])
    made = [digests(ids, scope) for ids, scope in columns]
    return np.concatenate(made) if made else np.zeros(0, dtype="S16")


def note_different(known: DigestSet, found: Iterable[Mismatch]) -> None:
    """Note the ids of records that are there and differ from what was promised under them."""
    rows = iter(found)
    while block := list(islice(rows, _ROWS)):
        known.add(id_digests(one for one in block if one.kind is MismatchKind.DIFFERENT))
