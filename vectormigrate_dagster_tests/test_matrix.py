"""Checks docs/matrix.md against databases: each cell is run, and ends as its grade says, or the plan refuses it first.

A feature is put into a source, planned, moved, and both sides are read with no help of mapping or validation. No
difference may be silent. What Milvus Lite cannot hold is run on a collection in memory that declares what the newest
Milvus can.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

import pytest

from vectormigrate_dagster.databases import TYPES, capabilities_of
from vectormigrate_dagster.errors import PlanRefused
from vectormigrate_dagster.mapping.loss import Grade
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.model import Batch, Capabilities, FieldSchema, Payload, is_valid
from vectormigrate_dagster_tests.conftest import Collections
from vectormigrate_dagster_tests.matrix import cells
from vectormigrate_dagster_tests.matrix_features import Feature, Sample, collection, dense, features, natural_ids
from vectormigrate_dagster_tests.matrix_runs import Newest, Origin, Side, fill, is_there, move, planned, sides
from vectormigrate_dagster_tests.observations import Observed, announced, observe, worst

DIRECTIONS = list(product(TYPES, TYPES))
FEATURES = list(features())
VALUES = {one: f"x_{number:02}" for number, one in enumerate(FEATURES) if one.group == "payload value"}
"""Feature -> the payload key that it has where all of them are moved together."""

INDEXES = r"vector\..*\.(index|quantization|on_disk)"
"""Codes that the document does not count: what a database does of itself in a new collection."""


@dataclass(frozen=True)
class Case:
    """What one migration moves: one feature, or all payload values, each under a key of its own."""

    name: str
    build: Callable[[Capabilities], Sample | None]
    feature: Feature | None = None


def cases() -> Iterator[Case]:
    """Every case, in the order of the document."""
    yield Case("payload values", together)
    yield from (Case(one.name, one.build, one) for one in FEATURES if one not in VALUES)


def together(can: Capabilities) -> Sample:
    """Every payload value that a database can hold, each in records of its own."""
    payloads: list[Payload] = []
    fields: list[FieldSchema] = []
    for feature, sample in values_of(can).items():
        rename = VALUES[feature]
        payloads += [
            {rename if key == "x" else key: value for key, value in one.items()} for one in payloads_of(sample)
        ]
        fields += [one.model_copy(update={"name": rename}) for one in sample.schema.fields]
    vectors = {can.default_vector_name: dense(len(payloads))}
    return Sample(
        collection(can, fields=tuple(fields)), (Batch(natural_ids(can, len(payloads)), None, vectors, payloads),)
    )


def values_of(can: Capabilities) -> dict[Feature, Sample]:
    """Feature -> its own sample, for all payload values that a database can hold."""
    built = {feature: feature.build(can) for feature in VALUES}
    return {feature: sample for feature, sample in built.items() if sample is not None}


def payloads_of(sample: Sample) -> list[Payload]:
    return [payload for batch in sample.batches for payload in batch.payloads]


def key_of(feature: Feature, sample: Sample) -> str:
    """The payload key of a feature among others."""
    (key,) = {key for payload in payloads_of(sample) for key in payload}
    return VALUES[feature] if key == "x" else key


########
# Databases
########


@dataclass(frozen=True)
class Start:
    """A source that holds a sample, in a database that can do so much."""

    can: Capabilities
    sample: Sample
    origin: Origin


@dataclass(frozen=True)
class Matrix:
    """The databases, and sources that hold each case; made once, written by nobody."""

    sides: Mapping[str, Side]
    starts: dict[tuple[str, Case], Start | None] = field(default_factory=dict)

    def side(self, type: str, sample: Sample) -> Side:
        """Where a sample is moved from or to; an embedded database cannot hold all that its servers can."""
        return Newest.side(type) if self.in_memory(type, sample) else self.sides[type]

    def in_memory(self, type: str, sample: Sample) -> bool:
        """Whether a sample needs more than the database that is there can hold."""
        own, newest = self.sides[type].can, capabilities_of(type)
        missing = any(not is_valid(column).all() for batch in sample.batches for column in batch.vectors.values())
        elements = {vector.element for vector in sample.schema.vectors} & set(newest.elements)
        metrics = {(vector.kind, vector.metric) for vector in sample.schema.vectors}
        known = {(kind, metric) for kind, found in own.metrics.items() for metric in found}
        more = {(kind, metric) for kind, found in newest.metrics.items() for metric in found} - known
        return bool(
            elements - set(own.elements)
            or metrics & more
            or (missing and own.missing_vectors != newest.missing_vectors)
        )

    def start(self, type: str, case: Case) -> Start | None:
        """A source of a type that holds a case; None where it cannot."""
        key = (type, case)
        if key not in self.starts:
            newest = case.build(capabilities_of(type))
            side = None if newest is None else self.side(type, newest)
            sample = None if side is None else case.build(side.can)
            made = None if side is None or sample is None else Start(side.can, sample, fill(side, sample))
            self.starts[key] = made
        return self.starts[key]


@pytest.fixture(scope="module")
def matrix(
    pinecone_collections: Collections,
    qdrant_collections: Collections,
    weaviate_collections: Collections,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Matrix]:
    servers = {"pinecone": pinecone_collections, "qdrant": qdrant_collections, "weaviate": weaviate_collections}
    with sides(tmp_path_factory.mktemp("milvus"), servers) as found:
        yield Matrix(found)


########
# Cells
########


@pytest.mark.parametrize(("source", "target"), DIRECTIONS, ids=[f"{a}-{b}" for a, b in DIRECTIONS])
def test_h13_h14_h15_every_cell_ends_as_its_grade_says(
    source: str, target: str, matrix: Matrix, record_property: Callable[[str, object], None]
) -> None:
    documented = {cell.feature: cell.grade for cell in cells() if (cell.source, cell.target) == (source, target)}
    grades: dict[Feature, Grade] = {}
    silent: list[str] = []
    careful: list[str] = []
    for case in cases():
        start = matrix.start(source, case)
        if start is None:
            continue
        plan, seen = run(matrix, start, target)
        silent += [f"{case.name}: {what}" for what in seen.silent]
        for feature, said, found in graded(case, start, plan, seen):
            grades[feature] = said
            if found is not said and said is not Grade.REFUSED:
                careful.append(f"{feature.name} ({said.value}, found {found.value})")
    assert silent == []
    assert {f: g for f, g in grades.items() if g is not documented[f]} == {}
    counts = Counter(grades.values())
    told = ", ".join(f"{counts[grade]} {grade.value}" for grade in Grade)
    record_property(
        "told", f"{source} to {target}: {told}; silent differences: {len(silent)}; said with care: {careful}"
    )
    assert {feature for feature, grade in documented.items() if grade is not None} == grades.keys()


def run(matrix: Matrix, start: Start, target: str) -> tuple[Plan, Observed]:
    """Move a sample as the plan says, with every loss allowed; the first plan, and what became of everything."""
    place = matrix.side(target, start.sample).new()
    first = plan = planned(start.origin, place)
    if any(row.blocks for row in first.loss.rows):
        with pytest.raises(PlanRefused):
            first.loss.check()
        assert not is_there(place)
    if first.loss.refused:
        return first, Observed()
    losses = tuple(row.code for row in first.loss.rows if row.grade is Grade.LOSSY)
    if losses:
        plan = planned(start.origin, place, allow=losses)
    return first, observe(move(start.origin, place, plan))


def graded(case: Case, start: Start, plan: Plan, seen: Observed) -> Iterator[tuple[Feature, Grade, Grade]]:
    """Each feature of a case, what the plan says of it, and what was found."""
    if case.feature is None:
        for feature, sample in values_of(start.can).items():
            subject = f"field.{key_of(feature, sample)}"
            yield feature, announced(plan.loss, subject), seen.of(subject)
        return
    codes = case.feature.codes
    rows = [row for row in plan.loss.rows if row.code.startswith(codes)]
    said = worst(row.grade for row in rows if not re.fullmatch(INDEXES, row.code))
    yield case.feature, said, worst(grade for subject, grade in seen.grades.items() if subject.startswith(codes))
