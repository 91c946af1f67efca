"""Make the target collection ready, once per generation, and remember whose it is."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Database
from vectormigrate_dagster.defs.bulk import begin_load
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.home import migration_folder
from vectormigrate_dagster.defs.lease import Lease, held
from vectormigrate_dagster.defs.state import TargetState, target_key
from vectormigrate_dagster.errors import NotFound, TargetNotEmpty
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.model import CollectionSchema, IdColumn
from vectormigrate_dagster.model.vectors import Mask
from vectormigrate_dagster.transfer.ownership import OwnershipLog
from vectormigrate_dagster.transfer.sent import SentLog, SentRanges

_CHANGES = "changes"
_MTIME_NANOSECONDS = 10**9
"""Two entries within so long may leave a folder with one and the same time."""

_WAIT_SECONDS = 120.0
"""Creating a collection with indexes takes seconds on a server."""


def prepare_target(log: MigrationLog, plan: Plan, migration: Migration, target: Database) -> TargetState:
    """Create the target collection, or accept the one that is there, and make it ready for a load.

    Raises:
        TargetNotEmpty: it holds records, `on_conflict` is `fail`, and this is the generation's first run.
        SchemaMismatch: it cannot be made as planned.
    """
    with held(Lease(log.instance, log.migration_id, target_key(plan.generation)), _WAIT_SECONDS):
        log.refresh()
        state = log.target(plan)
        if state is None or state.state == "creating":
            state = _settle(log, plan, migration, target, interrupted=state is not None)
            log.record(target_key(plan.generation), state)
        return begin_load(log, plan, target, state, defer=migration.transfer.defer_indexing == "auto")


def _settle(log: MigrationLog, plan: Plan, migration: Migration, target: Database, *, interrupted: bool) -> TargetState:
    """Decide whose the collection is, and make it if nobody has."""
    wanted = plan.mapping.target_schema
    found, records = _look(target)
    if found is not None and records == 0 and interrupted and found.marker == wanted.marker:
        # Our own creation was interrupted, perhaps before its indexes were made.
        target.drop()
        found = None
    if found is None:
        log.record(target_key(plan.generation), TargetState(plan=plan.digest, state="creating"))
        target.create(wanted)
        return TargetState(plan=plan.digest, state="created")
    if records and migration.transfer.on_conflict == "fail":
        raise TargetNotEmpty(
            f"collection '{target.endpoint.collection}' in the target holds {records:,} records; "
            "set transfer.on_conflict to skip or overwrite, or name an empty collection"
        )
    return TargetState(plan=plan.digest, state="existing", records_before=records)


def ownership_of(log: MigrationLog, plan: Plan, key: str, target: TargetState) -> OwnershipLog | None:
    """The ownership log of a partition; None where the whole collection is ours."""
    if target.state == "created":
        return None
    return _InheritedLog(_folder(log) / "ownership" / key, partial(_may_have_written, _generation(plan)))


def written_by(log: MigrationLog, plan: Plan, keys: Collection[str], target: TargetState) -> OwnershipLog | None:
    """What some partitions have written, or others under their ids; only to be asked. None as in `ownership_of`."""
    if target.state == "created":
        return None
    generation, chosen = _generation(plan), frozenset(keys)
    counts = lambda name: name in chosen or _may_have_written(generation, name)  # noqa: E731  # one expression
    return _InheritedLog(_folder(log) / "ownership" / "asked", counts)


def changes_key(plan: Plan, slot: int) -> str:
    """What catching up is called where partitions are: its logs are told from theirs and from those of other plans.

    Args:
        plan: the plan.
        slot: of the process that catches up; each needs a log of its own.
    """
    return f"{_generation(plan)}-{_CHANGES}{slot}"


def ownership_of_changes(log: MigrationLog, plan: Plan, slot: int, target: TargetState) -> OwnershipLog | None:
    """The ownership log of catching up, which knows what any partition has written; None where all is ours."""
    if target.state == "created":
        return None
    return _InheritedLog(_folder(log) / "ownership" / changes_key(plan, slot), lambda name: True)  # noqa: ARG005  # any


def sent_of(log: MigrationLog, key: str, target: TargetState) -> SentLog | None:
    """What notes how far a partition may have come where the whole collection is ours; None where it is not."""
    if target.state == "existing":
        return None
    return SentLog(_sent_folder(log) / f"{key}.jsonl")


def sent_ranges(log: MigrationLog) -> SentRanges:
    """How far all partitions may have come, those of earlier generations too."""
    return SentRanges(sorted(_sent_folder(log).glob("g*.jsonl")))


def ownership_folders(log: MigrationLog) -> list[Path]:
    """The folder of every ownership log that counts, of all partitions and generations, the oldest first."""
    return sorted((_folder(log) / "ownership").glob("g*-*"))


def logs_to_take_back(log: MigrationLog, plan: Plan, key: str) -> tuple[list[OwnershipLog], list[OwnershipLog]]:
    """The logs that a partition's run takes back, and those that may tell that their records were written again.

    What earlier generations wrote is shared among the partitions of this one, wherever their splits were cut. Any
    partition may have written it again; what this generation wrote first, only its own partition may. So without
    earlier generations no more than one log is in memory.
    """
    keys, folders = plan.keys, ownership_folders(log)
    earlier = [folder for folder in folders if folder.name not in keys][keys.index(key) :: len(keys)]
    wanted = [*earlier, *(folder for folder in folders if folder.name == key)]
    opened: dict[Path, OwnershipLog] = {folder: OwnershipLog(folder) for folder in (folders if earlier else wanted)}
    return [opened[folder] for folder in wanted], list(opened.values())


def overwritten(log: MigrationLog) -> int:
    """How many records that stood in the target before are kept in ownership logs; one log in memory at a time."""
    folders = [folder for folder in ownership_folders(log) if any(folder.glob("*.before.parquet"))]
    return sum(OwnershipLog(folder).overwritten for folder in folders)


def retire(log: MigrationLog, plan: Plan, *, keep: bool) -> None:
    """Put away what tells what was written, once that was taken back; a later generation begins without it.

    Args:
        keep: in a folder of its own, because there are before-images in it that were not written back.
    """
    put_away = _folder(log) / "undone" / f"g{plan.generation:04}"
    for folder in (_folder(log) / "ownership", _sent_folder(log)):
        if keep and folder.exists():
            put_away.mkdir(parents=True, exist_ok=True)
            folder.replace(put_away / folder.name)
        elif folder.exists():
            shutil.rmtree(folder)


def _folder(log: MigrationLog) -> Path:
    return migration_folder(log.instance, log.migration_id)


def _sent_folder(log: MigrationLog) -> Path:
    return _folder(log) / "sent"


class _InheritedLog(OwnershipLog):
    """A log that also knows what stands in others beside it, those that are being written too.

    Args:
        folder: of its own entries.
        counts: which of the others count, by name: those of earlier generations, wherever their splits were cut.
    """

    def __init__(self, folder: Path, counts: Callable[[str], bool]) -> None:
        super().__init__(folder)
        self._counts = counts
        self._others: dict[Path, _Other] = {}

    def wrote(self, ids: IdColumn, scope: str | None) -> Mask:
        """See `OwnershipLog.wrote`."""
        wrote = super().wrote(ids, scope)
        for log in self._newest():
            wrote |= log.wrote(ids, scope)
        return wrote

    def _newest(self) -> list[OwnershipLog]:
        """The others as they are now; an entry that appears in a folder changes its time."""
        found: dict[Path, _Other] = {}
        for path in sorted(self.folder.parent.glob("g*-*")):
            if path != self.folder and self._counts(path.name):
                read, changed = time.time_ns(), path.stat().st_mtime_ns
                known = self._others.get(path)
                if known is None:
                    known = _Other(OwnershipLog(path), changed, read)
                elif changed != known.changed or known.read - changed < _MTIME_NANOSECONDS:
                    known.log.refresh()
                    known = _Other(known.log, changed, read)
                found[path] = known
        self._others = found
        return [one.log for one in found.values()]


@dataclass(frozen=True)
class _Other:
    """A log beside another one.

    Args:
        log: what it told when it was read.
        changed: the time of its folder, which had been looked at before.
        read: when that was; so soon after `changed` that more may have come without a sign, it says too little.
    """

    log: OwnershipLog
    changed: int
    read: int


def _may_have_written(generation: str, name: str) -> bool:
    """Whether any partition of a generation may find what was written by whom a log is named after."""
    return name.partition("-")[0] < generation or name.startswith(f"{generation}-{_CHANGES}")


def _generation(plan: Plan) -> str:
    return plan.splits[0].key.partition("-")[0]


def _look(target: Database) -> tuple[CollectionSchema | None, int]:
    """The target's schema and number of records; None and 0 if there is no collection."""
    try:
        return target.describe(), target.count()
    except NotFound:
        return None, 0
