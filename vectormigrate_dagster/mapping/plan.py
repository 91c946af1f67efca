"""Make a plan: look at both sides, write to neither."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from vectormigrate_dagster.config import EndpointConfig, Migration
from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.errors import NotFound, TargetNotEmpty
from vectormigrate_dagster.mapping.digested import Digested, digest_of
from vectormigrate_dagster.mapping.loss import LossReport
from vectormigrate_dagster.mapping.origin import Before
from vectormigrate_dagster.mapping.profile import Profile, profile_source
from vectormigrate_dagster.mapping.schema import Mapping, map_schema
from vectormigrate_dagster.model import CollectionSchema, Split

_PARTITIONS = 400
_PARTITION_RECORDS = (100_000, 5_000_000)
_BATCH_RECORDS = 1000
"""Records of a batch where `batch_size` is auto and the databases allow more."""


class PlannedSplit(BaseModel):
    """A split and its partition key, `g<generation>-<ordinal>`; keys are never reused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    split: Split


class Estimate(BaseModel):
    """What a load is expected to take, told from how fast the profile was read.

    Args:
        seconds: None where nothing was read.
        requests: reads and writes of batches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float | None = None
    requests: int = 0
    records_per_second: float | None = None


class Plan(Digested):
    """What will be done: made once, stored, never drawn again by a resume.

    Args:
        source, target: the two collections, for people; never secret.
        source_records: what the source held when the plan was made.
        target_existed: the target collection was there.
        target_records: what it held.
        config_digest: of those parts of the migration file that change what is written.
    """

    migration_id: str
    generation: int
    created_at: datetime
    source: str
    target: str
    mapping: Mapping
    loss: LossReport
    splits: tuple[PlannedSplit, ...]
    source_records: int
    target_existed: bool
    target_records: int
    profile: Profile
    estimate: Estimate
    config_digest: str

    @property
    def keys(self) -> tuple[str, ...]:
        """The partition keys, in the order of the splits."""
        return tuple(planned.key for planned in self.splits)

    def decides(self) -> Any:
        """See `Digested.decides`; not when the plan was made or how long it may take."""
        return {
            "migration": self.migration_id,
            "generation": self.generation,
            "config": self.config_digest,
            "mapping": self.mapping.digest,
            "splits": [planned.model_dump(mode="json") for planned in self.splits],
        }


def make_plan(
    source: Source,
    target: Source,
    migration: Migration,
    *,
    generation: int,
    profile: Literal["sample", "full"] = "sample",
    adopt: bool = False,
) -> Plan:
    """Look at both sides and decide what becomes of everything. The caller checks `Plan.loss`.

    Args:
        profile: look at a sample of the records, or at all of them.
        adopt: records in the target are an earlier generation's, which this one continues.

    Raises:
        ConfigurationError: an option cannot be meant so.
        TargetNotEmpty: the target holds records, and `on_conflict` is `fail`.
        NotFound: the source or one of its scopes does not exist.
        SchemaMismatch: the target collection is there and does not fit.
    """
    source_can, target_can = source.probe(), target.probe()
    source_schema = source.describe()
    scopes = _scopes(source, migration.source)
    existing, target_records = _existing(target)
    if target_records and migration.transfer.on_conflict == "fail" and not adopt:
        raise TargetNotEmpty(
            f"collection '{target.endpoint.collection}' in the target holds {target_records:,} records; "
            "set transfer.on_conflict to skip or overwrite, or name an empty collection"
        )
    with source.as_of_now():
        records = source.about() if scopes is None else sum(source.about(scope) for scope in scopes)
        splits = source.plan_splits(partition_records(records, migration), scopes)
        before = Before.of(source_schema, migration.mapping)
        found = profile_source(source, splits, full=profile == "full", before=before)
    mapping, loss = map_schema(
        source_schema,
        source_can,
        target_can,
        migration.mapping,
        found,
        collection=target.endpoint.collection,
        existing=existing,
    )
    return Plan(
        migration_id=migration.id,
        generation=generation,
        created_at=datetime.now(UTC),
        source=str(source.endpoint),
        target=str(target.endpoint),
        mapping=mapping,
        loss=loss,
        splits=tuple(
            PlannedSplit(key=f"g{generation:04}-{ordinal:05}", split=split) for ordinal, split in enumerate(splits)
        ),
        source_records=records,
        target_existed=existing is not None,
        target_records=target_records,
        profile=found,
        estimate=_estimate(records, found, migration, len(splits)),
        config_digest=config_digest(migration),
    )


def partition_records(total: int, migration: Migration) -> int:
    """Records that one partition should hold: a minute of work or more, a few hundred partitions."""
    wanted = migration.transfer.partition_records
    if wanted != "auto":
        return wanted
    low, high = _PARTITION_RECORDS
    size = min(max(total // _PARTITIONS, low), high)
    # As many for each worker, or the last partition is one worker's while the others wait.
    rounds = math.ceil(total / size / migration.workers())
    return math.ceil(total / (rounds * migration.workers())) if total > size else size


def config_digest(migration: Migration) -> str:
    """SHA-256 of those parts of a migration file that change what is written, as hexadecimal text."""
    return digest_of(
        {
            "source": _where(migration.source),
            "target": _where(migration.target),
            "mapping": migration.mapping.model_dump(mode="json"),
            "on_conflict": migration.transfer.on_conflict,
        }
    )


def _where(config: EndpointConfig) -> dict[str, Any]:
    # How long to wait and which key to use change nothing of what is written.
    options = config.options.model_dump(mode="json", exclude={"timeout_s", "folder_wait_s"})
    return {**config.model_dump(mode="json", exclude={"api_key_env", "options"}), "options": options}


def _scopes(source: Source, config: EndpointConfig) -> Sequence[str] | None:
    """The scopes that the migration names; None for all of them."""
    if config.scopes == "all":
        return None
    there = source.scopes()
    missing = [scope for scope in config.scopes if scope not in there]
    if missing:
        known = ", ".join(f"'{scope}'" for scope in there[:10]) or "none"
        raise NotFound(f"collection '{config.collection}' in the source has no scope '{missing[0]}'; it has {known}")
    return config.scopes


def _existing(target: Source) -> tuple[CollectionSchema | None, int]:
    """The target's schema and number of records, if it is there."""
    try:
        return target.describe(), target.count()
    except NotFound:
        return None, 0


def _estimate(records: int, profile: Profile, migration: Migration, splits: int) -> Estimate:
    size = migration.transfer.batch_size
    batches = -(-records // (_BATCH_RECORDS if size == "auto" else size)) + splits
    if not profile.records or profile.seconds <= 0:
        return Estimate(requests=2 * batches)
    rate = profile.records / profile.seconds
    limit = migration.transfer.rate_limit
    rate = rate if limit is None else min(rate, limit)
    # Reading and writing overlap; writing is taken to be as fast as reading.
    return Estimate(seconds=records / rate, requests=2 * batches, records_per_second=rate)
