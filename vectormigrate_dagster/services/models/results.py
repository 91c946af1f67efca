"""What a verb did or found: the documents of all other verbs."""

from __future__ import annotations

from typing import Any

from vectormigrate_dagster.mapping.loss import LossRow
from vectormigrate_dagster.services.models.common import Count, Document, EndpointDocument, LossCounts, Utc


class Estimate(Document):
    """What a migration will cost, as far as it can be told beforehand.

    Args:
        seconds: wall time of loading.
        requests: calls to both databases.
        units: read and write units, where a database charges by them.
    """

    seconds: float | None = None
    requests: int | None = None
    units: int | None = None


class PlanDocument(Document):
    """What a migration will do.

    Args:
        records: records of the source.
        conflicts: what becomes of records that the target holds; null if it holds none.
        mapping: what becomes of each id kind, vector, field, index, metric and scope; with grade and reason.
        loss: how many of those rows have each grade.
    """

    migration_id: str
    generation: int
    digest: str
    source: EndpointDocument
    target: EndpointDocument
    records: Count
    partitions: Count
    conflicts: str | None = None
    mapping: tuple[LossRow, ...] = ()
    loss: LossCounts = LossCounts()
    estimate: Estimate = Estimate()


class TierResult(Document):
    """What one tier of validation found.

    Args:
        name: count, ids, records or search.
        checked: records (for search: queries) that were compared.
        summary: one sentence; a sample states its confidence in it.
    """

    name: str
    passed: bool
    checked: Count
    mismatched: Count
    summary: str


class ValidationDocument(Document):
    """Whether the target holds what the source holds.

    Args:
        full: everything was compared, not a sample.
        mismatches: folder with Parquet files of all that is wrong, if everything was compared and anything is.
        plan: digest of the plan against which it was compared.
        seed: what random choices began with; the same one makes the same choices.
        began_at, at: when it began and ended.
        digest: SHA-256 of the whole report as JSON.
    """

    migration_id: str
    passed: bool
    full: bool
    at: Utc
    seconds: float
    tiers: tuple[TierResult, ...]
    mismatches: str | None = None
    plan: str | None = None
    seed: int | None = None
    began_at: Utc | None = None
    digest: str | None = None


class UnrepairedRecord(Document):
    """A listed record that is still not right, and why.

    Args:
        id, scope: where it is in the target.
        outcome: refused, changed_on_both_sides, left_alone or still_wrong.
    """

    id: str
    scope: str | None
    outcome: str
    reason: str


class RepairDocument(Document):
    """What became of the records that the last validation listed; each is counted once.

    Args:
        passed: none is left. That says nothing of other records: only a validation does.
        repaired: rewritten or deleted, and right when they were looked at again.
        already_right: somebody mended them before.
        gone: on neither side any more.
        refused: the mapping or the target refuses them.
        changed_on_both_sides: changed at source and target since they were listed; nobody guessed which is right.
        left_alone: somebody else's, or not to be mended by writing.
        still_wrong: written, and not right afterwards.
        generations: passes over what was still wrong.
        progress: false if the last pass repaired nothing, so that no other was tried.
        left: the first 20 of those that are not right.
        mismatches: Parquet file of all of those; the next repair goes on with it.
    """

    migration_id: str
    passed: bool
    at: Utc
    seconds: float
    listed: Count
    repaired: Count = 0
    already_right: Count = 0
    gone: Count = 0
    refused: Count = 0
    changed_on_both_sides: Count = 0
    left_alone: Count = 0
    still_wrong: Count = 0
    generations: Count = 0
    progress: bool = True
    left: tuple[UnrepairedRecord, ...] = ()
    mismatches: str | None = None


class RecordPlace(Document):
    """A record on one side.

    Args:
        id: the id that it has there.
        payload: its fields, if it was found.
    """

    type: str
    collection: str
    id: str | None
    found: bool
    scope: str | None = None
    payload: dict[str, Any] | None = None


class LookupDocument(Document):
    """Where a record is on both sides.

    Args:
        record_id: the id that was asked for.
        partition: the partition that moves it.
    """

    migration_id: str
    record_id: str
    source: RecordPlace
    target: RecordPlace
    partition: str | None = None


class RollbackDocument(Document):
    """What a rollback did.

    Args:
        already: there was nothing left to do, because it was done before.
        undone: records that are as they were before the migration: deleted, or written back.
        left: records that were left alone because somebody has changed them since.
        dropped: the collection, which this migration had made, was empty and is deleted.
        remaining: records in a collection of ours that kept it from being deleted, those of `left` included.
        listed: folder with lists of what was left and what remains, if anything was.
    """

    migration_id: str
    generation: int
    target: EndpointDocument
    already: bool
    undone: Count
    left: Count
    dropped: bool
    remaining: Count
    listed: str | None = None
    seconds: float


class ExportedScope(Document):
    """One folder of an export."""

    scope: str | None
    folder: str
    files: Count
    records: Count


class ExportDocument(Document):
    """A source that was written as Parquet."""

    migration_id: str
    to: str
    records: Count
    bytes: Count
    seconds: float
    scopes: tuple[ExportedScope, ...]


class ImportFilesDocument(Document):
    """A source that was mapped and written as files for the target's bulk import.

    Args:
        refused: records that have no place in the target, listed with their reasons in `refused_file`.
        steps: what is to be done with the files, in order.
    """

    migration_id: str
    to: str
    records: Count
    refused: Count
    refused_file: str | None
    bytes: Count
    seconds: float
    scopes: tuple[ExportedScope, ...]
    steps: tuple[str, ...]


class DemoValidation(Document):
    """The demo's proof: each tier by name, and all of them."""

    passed: bool
    tiers: dict[str, bool]


class DemoLive(Document):
    """What an application saw of the live demo.

    Args:
        writes: that were acknowledged.
        writes_after_cutover: of them, those to the new side.
        cutover_pause_seconds, reverse_pause_seconds: the longest that a write took while the sides were switched.
        lost: records that are not what the application was told last.
    """

    writes: Count
    writes_after_cutover: Count
    cutover_pause_seconds: float
    reverse_pause_seconds: float
    lost: Count


class DemoDocument(Document):
    """What the demo did.

    Args:
        live: of the live demo only.
    """

    migration_id: str
    source: str
    target: str
    records_source: Count
    records_target: Count
    validation: DemoValidation
    seconds: float
    records_per_second: float
    home: str
    live: DemoLive | None = None
