"""Where a run takes place: two collections, the plan between them and the journal; all processes are given this."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import EndpointConfig, Migration, TransferConfig
from vectormigrate_dagster.databases import Database, Endpoint, Source
from vectormigrate_dagster.live.journal import Bounds, Journal, JournalDatabase
from vectormigrate_dagster.mapping.plan import Plan, make_plan
from vectormigrate_dagster.model import CollectionSchema, ScopeKind
from vectormigrate_dagster_tests.harness import side_of
from vectormigrate_dagster_tests.live.chaos import records
from vectormigrate_dagster_tests.live.chaos.history import Place

SCOPES = ("north", "west-3")
_PARTITIONS = ("north", "west_3")
"""Milvus 2.3.5 refuses others: they "can only contain numbers, letters and underscores"."""

NUMBERS = 120
"""Records that there may be in each scope; two of three are there at the beginning."""
FIRST = "first"
HOT = 6
"""Of these, so many are written about as often as all others together."""


@dataclass(frozen=True, kw_only=True)
class World:
    """One run.

    Args:
        name: unique among the runs of a server, and the migration's id.
        seed: of the application's choices.
        folder: holds the notes of writers, and what processes say.
        journal_url: where the journal is.
        plan: made before anybody writes.
        scopes: of the source; (None,) where it is not divided.
        bounds: of the protocol.
        pause: seconds that each thread of the application rests between two writes.
    """

    name: str
    seed: int
    folder: Path
    journal_url: str
    source: Endpoint
    target: Endpoint
    plan: Plan
    scopes: tuple[str | None, ...]
    bounds: Bounds
    pause: float = 0.0

    @property
    def journal_engine(self) -> str:
        """What the journal is in: "sqlite" or "postgresql"."""
        return self.journal_url.partition(":")[0]

    @property
    def schema(self) -> CollectionSchema:
        """Of the source."""
        return self.plan.mapping.source_schema

    @property
    def initial(self) -> Mapping[Place, str]:
        """What is in the source before anybody writes."""
        return initial(self.scopes)

    def journal(self) -> Journal:
        """The journal, for one process."""
        return Journal(JournalDatabase(self.journal_url), self.name)

    def flag(self, name: str) -> Path:
        """A file that exists once something is so."""
        return self.folder / f"{name}.flag"


def patient(endpoint: Endpoint) -> Endpoint:
    """The same collection for whoever is no part of the run: no deadline is short."""
    return replace(endpoint, options=endpoint.options.model_copy(update={"timeout_s": 60.0}))


def initial(scopes: tuple[str | None, ...]) -> dict[Place, str]:
    return {(scope, number): FIRST for scope in scopes for number in range(NUMBERS) if number % 3}


def fill(source: Database, chance: random.Random) -> tuple[str | None, ...]:
    """Make a source and put the first records into it; return its scopes, (None,) if it is not divided."""
    can = source.probe()
    kinds = [kind for kind in can.scope_kinds if kind not in (ScopeKind.NONE, ScopeKind.FIELD)]
    divided = bool(kinds) and not can.mixed_id_kinds and chance.random() < 0.7
    kind = kinds[0] if divided else ScopeKind.NONE
    names = _PARTITIONS if kind is ScopeKind.PARTITION else SCOPES
    scopes: tuple[str | None, ...] = names if divided else (None,)
    schema = records.schema(can, source.endpoint.collection, kind)
    source.create(schema)
    there, step = initial(scopes), len(schema.ids.kinds)
    for scope, first in product(scopes, range(step)):
        numbers = [number for number in range(first, NUMBERS, step) if (scope, number) in there]
        assert source.upsert(records.batch(schema, scope, numbers, FIRST)) == []
    source.wait_visible()
    return scopes


def make(
    name: str, seed: int, folder: Path, journal_url: str, source: Endpoint, target: Endpoint, bounds: Bounds
) -> World:
    """Fill the source, plan, make the target, and register the migration."""
    with databases.open_target(patient(source)) as database, databases.open_target(patient(target)) as written:
        scopes = fill(database, random.Random(f"world {seed}"))
        sides = (EndpointConfig.model_validate(side_of(end)) for end in (source, target))
        transfer = TransferConfig(partition_records=NUMBERS // 4)
        migration = Migration(**dict(zip(("source", "target"), sides, strict=True)), id=name, transfer=transfer)
        written.probe()
        plan = make_plan(Source(database), Source(written), migration, generation=1, profile="full")
        plan.loss.check()
        written.create(plan.mapping.target_schema)
    journal = JournalDatabase(journal_url)
    Journal.register(journal, name, id_kinds=plan.mapping.source_schema.ids.kinds, bounds=bounds, by="chaos")
    journal.close()
    return World(
        name=name,
        seed=seed,
        folder=folder,
        journal_url=journal_url,
        source=source,
        target=target,
        plan=plan,
        scopes=scopes,
        bounds=bounds,
    )
