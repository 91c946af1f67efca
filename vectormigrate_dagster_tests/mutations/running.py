"""Runs the mutations of one direction: moves everything, spoils the target in one way after the other, validates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from vectormigrate_dagster.databases import Database, Hits, Source
from vectormigrate_dagster.errors import BrokenScan, DatabaseError
from vectormigrate_dagster.mapping.loss import Grade
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import Batch, IdColumn, Metric, VectorKind, id_text
from vectormigrate_dagster.model.compare import compare
from vectormigrate_dagster.transfer.throttle import Throttle
from vectormigrate_dagster.validation import (
    Exceptions,
    SearchSettings,
    ValidationReport,
    validate_full,
    validate_sample,
)
from vectormigrate_dagster.validation.mismatches import Mismatch
from vectormigrate_dagster.validation.search import Searched
from vectormigrate_dagster.validation.tolerance import tolerance_of
from vectormigrate_dagster_tests.batches import concat
from vectormigrate_dagster_tests.matrix_features import Sample
from vectormigrate_dagster_tests.matrix_runs import Origin, Place, Side, fill, move, planned
from vectormigrate_dagster_tests.mutations.catalog import (
    COUNT,
    IDS,
    SEARCH,
    Change,
    Mutation,
    covered,
    mutations_of,
)
from vectormigrate_dagster_tests.mutations.spoiled import Spoiled

Repeat = Callable[[Database, Batch], None]

MIN_COSINE = 0.9999
_MANY = 5
_NAMES_THE_VECTOR = ("as planned", "of the scores for vector '")
CLEAN = "nothing changed"
WITHIN = "a vector within the tolerance"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a validation made of one mutation.

    Args:
        wanted, failed: tiers that must fail, and those that did.
        named: whether the report and the list name every record that was changed.
        how: "written" into the target, or done to its "answers"; "" where the target cannot tell the two apart.
    """

    mutation: str
    wanted: frozenset[str]
    failed: frozenset[str]
    named: bool
    how: str

    @property
    def applies(self) -> bool:
        """Whether the target could be wrong in this way."""
        return bool(self.how)

    @property
    def caught(self) -> bool:
        """Whether the right tiers failed and named the records; of what is right, none."""
        return self.failed == self.wanted if not self.wanted else self.wanted <= self.failed and self.named


class Direction:
    """One migration that is complete and right, and a target that may be spoiled."""

    def __init__(self, origin: Side, side: Side, sample: Sample) -> None:
        self._origin = fill(origin, sample)
        self._side = side
        self._place = side.new()
        self.plan = _plan(self._origin, self._place)
        moved = move(self._origin, self._place, self.plan)
        self._refused = len(moved.refused)

    @contextmanager
    def opened(self) -> Iterator[Opened]:
        """Both sides at hand."""
        with self._origin.open() as source, self._place() as target:
            source.probe()
            target.probe()
            yield Opened(Source(source), target, self.plan, self._side, self._refused)

    def drop(self) -> None:
        """Delete both collections."""
        for place in (self._origin.open, self._place):
            with place() as database:
                database.drop()


def _plan(origin: Origin, target: Place) -> Plan:
    """A plan that drops what the other side has no place for, and allows what it calls lossy."""
    first = planned(origin, target)
    codes = [row.code.removesuffix(".metric") for row in first.loss.refused]
    drop = tuple(dict.fromkeys("vector.far" if code.startswith("vectors.") else code for code in codes))
    losses = (row.code for row in planned(origin, target, drop=drop).loss.rows if row.grade is Grade.LOSSY)
    return planned(origin, target, drop=drop, allow=tuple(losses))


class Opened:
    """A right target that is spoiled and put right again, over and over."""

    def __init__(self, source: Source, target: Database, plan: Plan, side: Side, refused: int) -> None:
        self._source = source
        self._target = target
        self._plan = plan
        self._mapper = RecordMapper(plan.mapping)
        self._splits = [planned.split for planned in plan.splits]
        self._side = side
        self._refused = refused
        self._tolerance = tolerance_of(plan.mapping.target_schema, target.capabilities, MIN_COSINE)
        # What is written is read back; a database that normalises gives back something else by less than this.
        self._close = replace(self._tolerance, min_cosine=dict.fromkeys(self._tolerance.min_cosine, 1 - 1e-7))
        self.records = [
            batch.take([row])
            for split in target.plan_splits(10_000)
            for batch in target.scan(split, batch_records=1000)
            for row in range(len(batch))
        ]

    def results(self, *, complete: bool = True, repeat: Repeat | None = None) -> Iterator[Result]:
        """Spoil the target in every way, and in none at the beginning and at the end.

        Args:
            complete: False leaves out most of what is written, but nothing of each kind.
            repeat: writes a record a second time under its id, where the target can hold that.
        """
        yield self._judge(self._target, CLEAN, frozenset(), set(), "read")
        for name in self._tolerance.min_cosine:
            change = covered(name, self.records, self._tolerance)
            yield self._written(Mutation(WITHIN, frozenset(), [change]))
        scopes = list(dict.fromkeys(one.scope for one in self.records))
        every = list(mutations_of(self.records, self._tolerance, scopes))
        for mutation in every if complete else _one_of_each_kind(every):
            yield self._written(mutation)
        yield self._twice() if repeat is None else self._repeated(repeat)
        yield from self._searches()
        yield self._judge(self._target, CLEAN, frozenset(), set(), "read")

    def report(self, target: Database, *, search: bool = True) -> tuple[ValidationReport, list[Mismatch]]:
        """What a full validation says, and its list."""
        listed: list[Mismatch] = []
        demands = self._demands(0, search=search)
        report = validate_full(self._source, target, self._mapper, self._splits, sink=listed.extend, **demands)
        return report, listed

    def reports(self, *, seed: int) -> tuple[ValidationReport, ValidationReport]:
        """What a full validation of the target and one of a sample say."""
        demands = self._demands(seed)
        whole = validate_full(self._source, self._target, self._mapper, self._splits, **demands)
        return whole, validate_sample(self._source, self._target, self._mapper, self._splits, size=10, **demands)

    def _demands(self, seed: int, *, search: bool = True) -> dict[str, Any]:
        return {
            "seed": seed,
            "tolerance": self._tolerance,
            "exceptions": Exceptions(refused=self._refused),
            "search": self._settings() if search else None,
            "throttle": Throttle(),
        }

    def _settings(self) -> SearchSettings:
        mapping = self._plan.mapping
        searched = [
            Searched(vector=made.name, metric=made.metric, source_vector=vector.source)
            for vector in mapping.vectors
            if (made := mapping.target_schema.vector(vector.target)).metric is not None
            and vector.kind is VectorKind.DENSE
        ]
        return SearchSettings(vectors=searched, k=3, queries=15)

    def _judge(self, target: Database, name: str, wanted: frozenset[str], ids: set[str], how: str) -> Result:
        """Validate, and see what came out."""
        try:
            report, listed = self.report(target, search=not wanted or SEARCH in wanted)
        except BrokenScan:
            return Result(mutation=name, wanted=wanted, failed=frozenset(), named=False, how=how)
        failed = frozenset(tier.tier for tier in report.tiers if not tier.passed)
        shown = {finding.id for tier in report.tiers if tier.tier in wanted for finding in tier.differences}
        if SEARCH in wanted:
            tier = report.tier(SEARCH)
            named = bool(tier.worst_queries) or any(words in tier.statement for words in _NAMES_THE_VECTOR)
        else:
            # A report shows the first findings only, of which one record may have many.
            named = ids <= {one.id for one in listed} and (ids <= shown if len(ids) < _MANY else bool(ids & shown))
        return Result(mutation=name, wanted=wanted, failed=failed, named=named, how=how)

    ########## What the target holds ##########

    def _written(self, mutation: Mutation) -> Result:
        """Write a mutation into the target; where it is not taken, do it to the answers."""
        takes = False
        for change in mutation.changes:
            state = self._write(change)
            try:
                if state == "taken":
                    return self._judge(self._target, mutation.name, mutation.tiers, change.named, "written")
            finally:
                self._restore(change)
            takes = takes or state == "other"
        if not takes:
            return Result(mutation=mutation.name, wanted=mutation.tiers, failed=frozenset(), named=False, how="")
        return self._answered(mutation)

    def _answered(self, mutation: Mutation) -> Result:
        change = mutation.changes[0]
        assert not change.removes
        spoiled = Spoiled(self._target)
        spoiled.instead = {(one.scope, id_text(one.ids[0])): one for one in change.puts}
        return self._judge(spoiled, mutation.name, mutation.tiers, change.named, "answers")

    def _write(self, change: Change) -> str:
        """Write; "taken" if the target holds it now, "same" if it cannot tell it from before, else "other"."""
        try:
            for one in change.removes:  # first, as Milvus Lite deletes an id from every partition
                self._target.delete(one.ids, one.scope)
            for batch in _together(change.puts):
                if self._target.upsert(batch):
                    return "other"
        except (DatabaseError, ValueError, TypeError):
            return "other"
        self._target.wait_visible()
        found = [(one, self._fetch(one)) for one in change.puts]
        if all(compare(one, there, tolerance=self._close).equal for one, there in found):
            return "taken"
        before = [(self._known(one), there) for one, there in found]
        if all(known is not None and compare(known, there, tolerance=self._close).equal for known, there in before):
            return "same"
        return "other"

    def _restore(self, change: Change) -> None:
        """Make the target what it was."""
        known = [(one, self._known(one)) for one in change.puts]
        for one, before in known:
            if before is None:
                self._target.delete(one.ids, one.scope)
        for batch in _together([before for _, before in known if before is not None] + list(change.removes)):
            assert self._target.upsert(batch) == []
        self._target.wait_visible()

    def _known(self, record: Batch) -> Batch | None:
        place = record.scope, record.ids.kind, record.ids[0]
        return next((one for one in self.records if (one.scope, one.ids.kind, one.ids[0]) == place), None)

    def _fetch(self, record: Batch) -> Batch:
        return self._target.fetch(record.ids, record.scope).batch

    def _twice(self) -> Result:
        """A record that the target gives twice."""
        record = self.records[len(self.records) // 2]
        spoiled = Spoiled(self._target)
        spoiled.twice = record.scope, id_text(record.ids[0])
        return self._judge(spoiled, "a record twice", frozenset({COUNT, IDS}), {id_text(record.ids[0])}, "answers")

    def _repeated(self, repeat: Repeat) -> Result:
        """A record that the target holds twice."""
        record = self.records[len(self.records) // 2]
        repeat(self._target, record)
        wanted, named = frozenset({COUNT, IDS}), {id_text(record.ids[0])}
        try:
            return self._judge(self._target, "a record twice", wanted, named, "written")
        finally:
            assert self._target.upsert(record) == []
            self._target.wait_visible()

    ########## What it answers ##########

    def _searches(self) -> Iterator[Result]:
        wanted = frozenset({SEARCH})
        half = Spoiled(self._target)
        half.answers = _without({id_text(one.ids[0]) for one in self.records[::2]})
        yield self._judge(half, "an index half built", wanted, set(), "answers")
        short = Spoiled(self._target)
        short.answers = lambda hits: replace(
            hits, ids=[ids.slice(0, 1) for ids in hits.ids], scores=[scores[:1] for scores in hits.scores]
        )
        yield self._judge(short, "too few answers", wanted, set(), "answers")
        yield from self._metrics(wanted)

    def _metrics(self, wanted: frozenset[str]) -> Iterator[Result]:
        """The same records in a collection with another metric; then one that says so, and one that does not."""
        schema = self._plan.mapping.target_schema
        name = self._settings().vectors[0].vector
        vector = schema.vector(name)
        possible = [one for one in self._target.capabilities.metrics[VectorKind.DENSE] if one is not vector.metric]
        other = next((one for one in (Metric.EUCLIDEAN, Metric.DOT, Metric.COSINE) if one in possible), possible[0])
        changed = schema.model_copy(
            update={
                "vectors": tuple(
                    one.model_copy(update={"metric": other}) if one.name == name else one for one in schema.vectors
                )
            }
        )
        with self._side.new()() as database:
            database.probe()
            spoiled = Spoiled(self._target)
            try:
                database.create(changed.model_copy(update={"name": database.endpoint.collection}))
                for batch in _together(self.records):
                    assert database.upsert(batch) == []
                database.wait_visible()
            except DatabaseError:
                spoiled.schema = changed
                yield self._judge(spoiled, "another metric", wanted, set(), "answers")
                return
            yield self._judge(database, "another metric", wanted, set(), "written")
            spoiled.searched = database
            yield self._judge(spoiled, "another metric than it says", wanted, set(), "answers")
            database.drop()


def _one_of_each_kind(mutations: Sequence[Mutation]) -> list[Mutation]:
    """The first mutation of every vector, of payloads, and all of whole records."""
    first: dict[str, Mutation] = {}
    for one in mutations:
        first.setdefault(one.name.partition(":")[0], one)
    return list(first.values())


def _together(records: Sequence[Batch]) -> list[Batch]:
    """Single records as batches of one scope and kind of id each, in ascending order."""
    groups: dict[object, list[Batch]] = {}
    for one in records:
        groups.setdefault((one.scope, one.ids.kind), []).append(one)
    batches = []
    for group in groups.values():
        group.sort(key=lambda one: one.ids[0])
        batches.append(concat(group, IdColumn.of(group[0].ids.kind, [one.ids[0] for one in group]), group[0].scope))
    return batches


def _without(hidden: set[str]) -> Callable[[Hits], Hits]:
    """Answers without some records."""

    def change(hits: Hits) -> Hits:
        rows = [[row for row, key in enumerate(ids.to_pylist()) if id_text(key) not in hidden] for ids in hits.ids]
        return replace(
            hits,
            ids=[ids.take(kept) for ids, kept in zip(hits.ids, rows, strict=True)],
            scores=[scores[kept] for scores, kept in zip(hits.scores, rows, strict=True)],
        )

    return change
