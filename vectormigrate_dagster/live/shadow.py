"""Shadow reads: send some of an application's queries to the other side too, and see whether it answers alike.

The application is given the primary's answer, at the primary's speed. Needs no Dagster.

    reader = ShadowReader("sqlite:///.dagster/journal.db", "packages", fraction=0.01)
    hits = reader.search(source=lambda: qdrant.query_points(...), target=lambda: milvus.search(...),
                         ids=lambda answer: [source_id_of(hit) for hit in answer])
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean, median
from types import TracebackType
from typing import Self, TypeVar

from vectormigrate_dagster.live.journal import Journal, JournalDatabase, Side, shadows
from vectormigrate_dagster.live.journal.shadows import Shadow
from vectormigrate_dagster.model import Id

T = TypeVar("T")

_DAY_SECONDS = 24 * 3600.0
_READ_AGAIN_SECONDS = 1.0
"""How old the knowledge may be of which side is the primary: reads are not part of the protocol."""


@dataclass(frozen=True, kw_only=True)
class Shadowed:
    """What shadow reads have shown in the last day, while the present primary was it.

    Args:
        reads: queries that both sides were asked, at most the newest 1,000.
        failed: those of them that the other side did not answer; they have nothing in common.
        overlap: the share of the primary's ids that the other side has found too; average and worst.
        primary_seconds, other_seconds: how long an answer took; median.
    """

    reads: int = 0
    failed: int = 0
    overlap: float = 0.0
    worst: float = 0.0
    primary_seconds: float = 0.0
    other_seconds: float = 0.0

    def __str__(self) -> str:
        alike = f"{self.overlap:.1%} of their answers in common, the worst {self.worst:.1%}, {self.failed:,} failed"
        times = f"the primary took {self.primary_seconds * 1000:.1f} ms, the other side {self.other_seconds * 1000:.1f}"
        return f"{self.reads:,} shadow reads have {alike}; {times} ms"


class ShadowReader:
    """Reads for an application during a migration; safe to use from several threads.

    A query that is sampled is sent to the other side afterwards, by a thread of its own, one at a time: while that is
    busy no query is sampled, so the application never waits for it.

    Args:
        url: of the journal, as for `DualWriter`.
        migration: the migration's id.
        fraction: of the queries that are sent to both sides.
        seed: what the sampling begins with.

    Raises:
        NotFound: the journal knows no such migration; plan it first.
        StorageFailed: the journal cannot be opened.
    """

    def __init__(self, url: str, migration: str, *, fraction: float = 0.01, seed: int | None = None) -> None:
        self._database = JournalDatabase(url)
        self._journal = Journal(self._database, migration)
        self._fraction = fraction
        self._random = random.Random(seed)  # noqa: S311  # it chooses queries
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="vectormigrate-shadow")
        self._busy: Future[None] | None = None
        self._primary = self._journal.control().primary
        self._read_at = time.monotonic()

    def search(self, *, source: Callable[[], T], target: Callable[[], T], ids: Callable[[T], Iterable[Id]]) -> T:
        """Ask the primary; return what it answered.

        Args:
            source: asks the source.
            target: asks the target.
            ids: the ids of an answer, as they are in the source.

        Raises:
            StorageFailed: the journal does not answer, so it is not known which side to ask.
        """
        primary = self._side()
        ask, other = (source, target) if primary == "source" else (target, source)
        began = time.monotonic()
        answer = ask()
        took = time.monotonic() - began
        if self._is_idle() and self._random.random() < self._fraction:
            self._busy = self._pool.submit(self._compare, primary, list(ids(answer)), took, other, ids)
        return answer

    def close(self) -> None:
        """Wait for the query that is under way, and give the journal's connections back; may be called twice.

        Raises:
            StorageFailed: the journal could not be written; nothing was compared since.
        """
        self._pool.shutdown()
        self._database.close()
        if self._busy is not None:
            self._busy.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _side(self) -> Side:
        if time.monotonic() - self._read_at > _READ_AGAIN_SECONDS:
            self._primary, self._read_at = self._journal.control().primary, time.monotonic()
        return self._primary

    def _is_idle(self) -> bool:
        """Whether another query can be compared; none can after the journal could not be written, as `close` tells."""
        return self._busy is None or (self._busy.done() and self._busy.exception() is None)

    def _compare(
        self, primary: Side, known: Sequence[Id], took: float, other: Callable[[], T], ids: Callable[[T], Iterable[Id]]
    ) -> None:
        began, error, found = time.monotonic(), None, set[Id]()
        try:
            found = set(ids(other()))
        except Exception as failed:  # noqa: BLE001  # whatever its client raises: the answer is kept as missing
            error = type(failed).__name__  # its text may quote anything, such as a key
        seen = Shadow(
            primary=primary,
            k=len(known),
            overlap=1.0 if not known and error is None else len(found & set(known)) / max(1, len(known)),
            primary_seconds=took,
            other_seconds=time.monotonic() - began,
            error=error,
        )
        with self._database.transaction() as connection:
            shadows.add(connection, self._journal.migration, seen, now=self._database.now(connection))


def shadowed(journal: Journal) -> Shadowed:
    """What shadow reads have shown in the last day."""
    primary = journal.control().primary
    with journal.database.reading() as connection:
        since = journal.database.now(connection) - _DAY_SECONDS
        seen = shadows.read(connection, journal.migration, primary=primary, since=since)
    if not seen:
        return Shadowed()
    return Shadowed(
        reads=len(seen),
        failed=sum(one.error is not None for one in seen),
        overlap=fmean(one.overlap for one in seen),
        worst=min(one.overlap for one in seen),
        primary_seconds=median(one.primary_seconds for one in seen),
        other_seconds=median(one.other_seconds for one in seen),
    )


def shadow_gate(journal: Journal, *, reads: int, min_overlap: float) -> Callable[[], Iterable[str]]:
    """A gate of the cutover: enough queries were answered alike by both sides; always open where none are asked for."""

    def check() -> Iterable[str]:
        if reads == 0:
            return
        found = shadowed(journal)
        if found.reads < reads:
            yield f"{found.reads:,} of {reads:,} shadow reads were made in the last day; let 'ShadowReader' see more"
        elif found.overlap < min_overlap:
            yield f"{found}; at least {min_overlap:.1%} are asked for"

    return check
