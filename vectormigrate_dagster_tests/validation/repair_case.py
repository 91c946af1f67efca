"""What tests of repair share: a right copy to be spoiled, the list that a validation would make, and its repair."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.mapping.plan import PlannedSplit
from vectormigrate_dagster.model import Id, IdColumn, IdKind
from vectormigrate_dagster.model.digests import record_digests
from vectormigrate_dagster.transfer.ownership import OwnershipLog
from vectormigrate_dagster.transfer.resync import Resync
from vectormigrate_dagster.transfer.sent import SentLog, SentRanges
from vectormigrate_dagster.transfer.throttle import Retry, Throttle
from vectormigrate_dagster.transfer.writer import OnConflict
from vectormigrate_dagster.validation.mismatches import Mismatch, MismatchKind, MismatchWriter, read_mismatches
from vectormigrate_dagster.validation.repair import RepairContext, RepairReport, repair
from vectormigrate_dagster_tests.batches import make_batch
from vectormigrate_dagster_tests.memory import MemoryDatabase
from vectormigrate_dagster_tests.same_mapper import SameMapper
from vectormigrate_dagster_tests.validation.support import SPLITS, bump, change_payload, change_vector

MISSING, EXTRA, DIFFERENT = MismatchKind.MISSING, MismatchKind.EXTRA, MismatchKind.DIFFERENT


def digest(database: MemoryDatabase, key: Id) -> bytes | None:
    record = database.store.records.get(None, {}).get(key)
    return None if record is None else bytes(record_digests(record).tolist()[0]).ljust(16, b"\0")


def look(source: MemoryDatabase, target: MemoryDatabase) -> Iterator[Mismatch]:
    """What a full validation finds."""
    for key in sorted(source.ids() | target.ids()):  # type: ignore[type-var]
        promised, found = digest(source, key), digest(target, key)
        if promised == found:
            continue
        kind = EXTRA if promised is None else MISSING if found is None else DIFFERENT
        origin = None if promised is None else str(key)
        yield Mismatch(
            kind=kind,
            id=str(key),
            id_kind="u64",
            where="record",
            expected="",
            actual="",
            source_id=origin,
            source_id_kind=origin and "u64",
            promised_digest=promised,
            found_digest=found,
        )


@dataclass
class Case:
    """A right copy to be spoiled, what is listed of it, and its repair."""

    folder: Path
    source: MemoryDatabase
    target: MemoryDatabase
    ownership: OwnershipLog | None = None
    sent: SentLog | None = None
    sent_before: SentRanges | None = None
    on_conflict: OnConflict = "fail"
    mapper: SameMapper = field(default_factory=SameMapper)
    throttle: Throttle = field(
        default_factory=lambda: Throttle(source=Retry(first_seconds=0), target=Retry(first_seconds=0))
    )

    @property
    def listing(self) -> Path:
        return self.folder / "listed.parquet"

    @property
    def rest(self) -> Path:
        return self.folder / "rest.parquet"

    def listed(self, *more: Mismatch) -> list[Mismatch]:
        found = [*look(self.source, self.target), *more]
        with MismatchWriter(self.listing) as writer:
            writer.add(found)
        return found

    def repaired(self, listed: Path | None = None) -> RepairReport:
        resync = Resync(
            Source(self.source),
            self.target,
            self.mapper,
            throttle=self.throttle,
            on_conflict=self.on_conflict,
            ownership=self.ownership,
            sent=self.sent,
            sent_before=self.sent_before,
        )
        context = RepairContext(
            target=self.target,
            mapper=self.mapper,
            throttle=self.throttle,
            splits=[PlannedSplit(key=f"g0001-{n:05}", split=split) for n, split in enumerate(SPLITS)],
            resync_of=lambda key: resync,
            page_records=7,
        )
        return repair(context, listed or self.listing, self.rest)

    def left(self) -> list[tuple[str, str]]:
        return [(one.id, one.detail) for one in read_mismatches(self.rest)] if self.rest.exists() else []

    def same(self) -> bool:
        return not list(look(self.source, self.target))


def counts(report: RepairReport) -> dict[str, int]:
    return {outcome.value: number for outcome, number in report.outcomes.items() if number}


def spoil(target: MemoryDatabase) -> None:
    """One of each: missing, extra, different."""
    target.delete(IdColumn.of(IdKind.U64, [7, 150]))
    target.put(make_batch([5000]))
    change_vector(target, 20, bump)
    change_payload(target, 90, n=90.0)
