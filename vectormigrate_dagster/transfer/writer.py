"""Write one mapped batch: who owns what stands there, pieces that fit, records at fault, a look at what arrived."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vectormigrate_dagster.databases import Database, Refusal, Sleep
from vectormigrate_dagster.errors import DatabaseError, InvalidRecord, TargetNotEmpty, ValidationFailed
from vectormigrate_dagster.model import Batch, IdColumn, id_text
from vectormigrate_dagster.model.compare import Comparison, Tolerance, compare
from vectormigrate_dagster.model.digests import record_digests
from vectormigrate_dagster.model.vectors import Mask
from vectormigrate_dagster.transfer.guard import NO_GUARD, WriteGuard
from vectormigrate_dagster.transfer.ownership import OwnershipLog
from vectormigrate_dagster.transfer.throttle import Throttle
from vectormigrate_dagster.transfer.tuning import Tuner

OnConflict = Literal["fail", "skip", "overwrite"]
Rows = npt.NDArray[np.int64]
Moving = Callable[[Batch], Collection[str]]
"""Which records of a mapped batch, by their ids as text, an application has written since the transfer began."""

T = TypeVar("T")

_VERIFIED_RECORDS = 20
_REFUSES_ALL = 100
"""Refusals in a row that name no record, nothing of any batch accepted between: taken for a fault of the target."""

_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Written:
    """What became of a batch.

    Args:
        acknowledged: records that the target has accepted durably.
        skipped: records that were left alone because somebody else's stand there.
        bytes: bytes of vectors in the acknowledged records and those refused with them.
        refused: records that the target refused.
    """

    acknowledged: int
    skipped: int
    bytes: int
    refused: tuple[Refusal, ...]


class BatchWriter:
    """Writes batches to a target; several threads may use one.

    Args:
        on_conflict: what to do with a record of somebody else under one of our ids.
        ownership: what tells ours from others; None where this migration created the collection.
        sleep: how to wait between attempts; is asked before each call as well, and ends the batch by raising.
        tuner: is told how writes went.
        guard: is asked before each request that writes.
    """

    def __init__(
        self,
        target: Database,
        throttle: Throttle,
        *,
        on_conflict: OnConflict,
        ownership: OwnershipLog | None,
        tolerance: Tolerance,
        sleep: Sleep,
        tuner: Tuner | None = None,
        guard: WriteGuard = NO_GUARD,
    ) -> None:
        self._target = target
        self._throttle = throttle
        self._on_conflict = on_conflict
        self._ownership = ownership
        self._tolerance = tolerance
        self._sleep = sleep
        self._tuner = tuner
        self._guard = guard
        self._lock = threading.Lock()
        self._refused_in_a_row = 0

    def write(self, batch: Batch, *, verify: int | None = None, moving: Moving | None = None) -> Written:
        """Write a batch; return when the target has accepted all of it but what it refused.

        Args:
            batch: records as the target takes them.
            verify: seed of a sample that is read back and compared; None reads nothing back.
            moving: is asked which of the records that differ an application has written meanwhile; those may differ.

        Raises:
            TargetNotEmpty: somebody else's records stand there and `on_conflict` is "fail".
            ValidationFailed: what was read back is not what was sent.
            StorageFailed: the ownership log could not be written.
            DatabaseError: the target failed for longer than the retry policy allows.
        """
        kept = self._claim(batch)
        refused = self._send(kept)
        if refused and self._on_conflict == "overwrite":
            self._note_kept(kept, {refusal.id for refusal in refused})
        if verify is not None:
            self._verify(_without(kept, {refusal.id for refusal in refused}), verify, moving)
        return Written(
            acknowledged=len(kept) - len(refused),
            skipped=len(batch) - len(kept),
            bytes=kept.nbytes,
            refused=tuple(refused),
        )

    def delete(self, ids: IdColumn, scope: str | None) -> None:
        """Delete records, whoever wrote them; return when the target has accepted that.

        Raises:
            DatabaseError: the target failed for longer than the retry policy allows.
        """

        def send() -> None:
            with self._guard.sending():
                self._target.delete(ids, scope)

        if len(ids):
            self._guarded(send)

    def _claim(self, batch: Batch) -> Batch:
        """The records that we may write, after the ownership log knows what stands under their ids."""
        log = self._ownership
        if log is None:
            return batch
        known = log.wrote(batch.ids, batch.scope)
        unknown = np.flatnonzero(~known)
        records = record_digests(batch)
        if len(unknown) < len(batch):
            again = np.flatnonzero(known)
            log.record_again(batch.ids.take(again), batch.scope, records[again])
        if len(unknown) == 0:
            return batch
        found = self._retry(partial(self._target.fetch, batch.ids.take(unknown), batch.scope))
        if len(found.batch):  # perhaps a re-sync of this migration has written them since
            known[unknown] = log.wrote(batch.ids.take(unknown), batch.scope)
            if known[unknown].any():
                return self._claim(batch)
        if len(found.batch) and self._on_conflict == "fail":
            raise TargetNotEmpty(
                f"{self._target.endpoint} holds {len(found.batch)} of the records to be written that this migration "
                f"did not write ({_named(found.batch.ids)}); pass on_conflict: skip or overwrite, or name an empty "
                "collection"
            )
        if len(found.batch) and self._on_conflict == "overwrite":
            images = replace(found.batch, scope=batch.scope)
            log.record_before(images, records[_rows_of(images.ids, batch.ids)])
        if len(found.missing):
            log.record_absent(found.missing, batch.scope, records[_rows_of(found.missing, batch.ids)])
        if len(found.batch) == 0 or self._on_conflict == "overwrite":
            return batch
        return batch.take(np.flatnonzero(~_in(batch.ids, found.batch.ids)))

    def _note_kept(self, batch: Batch, texts: set[str]) -> None:
        """See that the log does not take for overwritten what still stands in place of records that were refused."""
        if self._ownership is None:
            return
        self._retry(self._target.wait_visible)  # or a late read would show what was overwritten long ago
        found = self._retry(partial(self._target.fetch, _only(batch, texts).ids, batch.scope)).batch
        if len(found):
            self._ownership.record_kept(replace(found, scope=batch.scope))

    def _send(self, batch: Batch) -> list[Refusal]:
        """Write all records; return those that were refused."""
        refused: list[Refusal] = []
        waiting = [np.arange(len(batch), dtype=np.int64)]
        while waiting:
            rows = waiting.pop()
            if len(rows) == 0:
                continue
            piece, answer = self._guarded(partial(self._attempt, batch, rows))
            sent, rest = rows[: len(piece)], rows[len(piece) :]
            waiting.append(rest)
            if isinstance(answer, InvalidRecord):
                at_fault, again = _isolate(piece, answer)
                refused += at_fault
                waiting += [sent[chosen] for chosen in again]
                self._note_refusals(len(at_fault), answer)
            else:
                refused += answer
                if len(answer) < len(piece):
                    self._note_acceptance()
        return refused

    def _note_refusals(self, records: int, error: InvalidRecord) -> None:
        """Count refusals that name no record, of all threads; raise once there are too many in a row."""
        if error.ids:
            return
        with self._lock:
            self._refused_in_a_row += records
            in_a_row = self._refused_in_a_row
        if in_a_row >= _REFUSES_ALL:
            raise DatabaseError(
                f"{self._target.endpoint} refused {in_a_row} records in a row and accepted none between them, so the "
                f"records are hardly to blame: {error.reason}; mend that, then run the migration again"
            ) from error

    def _note_acceptance(self) -> None:
        with self._lock:
            self._refused_in_a_row = 0

    def _attempt(self, batch: Batch, rows: Rows) -> tuple[Batch, list[Refusal] | InvalidRecord]:
        """Send as much of the front of `rows` as fits into one write now."""
        size = self._throttle.batch.records
        limits = self._target.capabilities
        fitting = limits.max_batch_bytes * len(batch) // max(1, batch.nbytes)
        piece = _front(batch, rows, min(size, limits.max_batch_records, fitting))
        while len(piece) > 1 and piece.nbytes > limits.max_batch_bytes:  # records are of different sizes
            piece = _front(batch, rows, len(piece) // 2)
        began = time.monotonic()
        try:
            with self._guard.sending():
                answer = self._target.upsert(piece)
        except InvalidRecord as error:
            return piece, error
        except DatabaseError as error:
            if error.transient:  # who has too much to do asks us to slow down, or does not answer in time
                if self._tuner is not None:
                    self._tuner.was_too_much()
                self._throttle.batch.shrink(size)
            raise
        if self._tuner is not None:
            self._tuner.wrote(len(piece), time.monotonic() - began)
        if len(piece) >= size:
            self._throttle.batch.grow()
        return piece, answer

    def _verify(self, sent: Batch, seed: int, moving: Moving | None) -> None:
        """Read a sample of what was just written and compare it with what was sent."""
        if len(sent) == 0:
            return
        size = min(_VERIFIED_RECORDS, len(sent))
        rows = np.random.default_rng(seed).choice(len(sent), size=size, replace=False)
        sample = sent.take(np.sort(rows))
        self._retry(self._target.wait_visible)
        found = self._retry(partial(self._target.fetch, sample.ids, sample.scope))
        comparison = compare(sample, found.batch, tolerance=self._tolerance)
        if not comparison.equal and moving is not None:
            wrong = {*comparison.missing, *(difference.id for difference in comparison.differences)}
            sample = _without(sample, set(moving(_only(sample, wrong))))
            found = replace(found, batch=found.batch.take(np.flatnonzero(_in(found.batch.ids, sample.ids))))
            comparison = compare(sample, found.batch, tolerance=self._tolerance)
        if not comparison.equal:
            raise ValidationFailed(f"{self._target.endpoint} does not hold what was just written: {_told(comparison)}")

    def _retry(self, function: Callable[[], T]) -> T:
        self._sleep(0)
        return self._throttle.target.call(function, sleep=self._sleep)

    def _guarded(self, function: Callable[[], T]) -> T:
        """`_retry` for a call that writes."""
        self._sleep(0)
        return self._throttle.target.call(function, sleep=self._guard.after(self._sleep), failed=self._guard.failed)


def _front(batch: Batch, rows: Rows, count: int) -> Batch:
    """The records at the first `count` of `rows`, at least one; the batch itself if that is all of it."""
    chosen = rows[: max(1, count)]
    return batch if len(chosen) == len(batch) else batch.take(chosen)


def _isolate(piece: Batch, error: InvalidRecord) -> tuple[list[Refusal], list[Rows]]:
    """Narrow a refusal of a whole piece down: records at fault, and rows of the piece that are to be sent again.

    Records that the error names are taken at its word, unless it names all; otherwise the piece is halved.
    """
    texts = [id_text(value) for value in piece.ids.to_pylist()]
    named = set(texts) & set(error.ids)
    if len(piece) == 1 or 0 < len(named) < len(piece):
        at_fault = named or set(texts)
        rest = np.array([row for row, text in enumerate(texts) if text not in at_fault], dtype=np.int64)
        return [Refusal(text, error.reason, piece.scope) for text in texts if text in at_fault], [rest]
    first, second = np.array_split(np.arange(len(piece), dtype=np.int64), 2)
    return [], [second, first]


def _without(batch: Batch, texts: set[str]) -> Batch:
    """The records whose ids are not among `texts`."""
    if not texts:
        return batch
    return batch.take([row for row, value in enumerate(batch.ids.to_pylist()) if id_text(value) not in texts])


def _only(batch: Batch, texts: set[str]) -> Batch:
    """The records whose ids are among `texts`."""
    return batch.take([row for row, value in enumerate(batch.ids.to_pylist()) if id_text(value) in texts])


def _in(ids: IdColumn, others: IdColumn) -> Mask:
    """Which of `ids` are among `others`: bool (n,)."""
    values: pa.Array[pa.BooleanScalar] = pc.is_in(ids.array, value_set=others.array)
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _rows_of(ids: IdColumn, among: IdColumn) -> Rows:
    """Where in `among` each of `ids` is, all of which are there: int64 (n,)."""
    at: Any = pc.index_in(ids.array, value_set=among.array)
    return np.asarray(at.to_numpy(zero_copy_only=False), dtype=np.int64)


def _named(ids: IdColumn) -> str:
    texts = [f"'{id_text(value)}'" for value in ids.slice(0, _NAMED).to_pylist()]
    return ", ".join(texts) + (", …" if len(ids) > _NAMED else "")


def _told(comparison: Comparison) -> str:
    """What is wrong, with the ids of the first few records."""
    told = []
    for verb, ids in (("missing", comparison.missing), ("extra", comparison.extra)):
        if ids:
            told.append(f"{verb} {', '.join(map(repr, ids[:_NAMED]))}")
    told += [
        f"{difference.where} of '{difference.id}' ({difference.detail})"
        for difference in comparison.differences[:_NAMED]
    ]
    return "; ".join(told)
