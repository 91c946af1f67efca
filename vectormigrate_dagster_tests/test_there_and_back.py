"""Checks all sixteen pairs: what goes from A to B and back to A is what it was, by bits and types, with ids and scopes.

A holds everything that it can. What B has no place for is dropped or refused, as the plan says, and nothing else; the
only other difference is an int that became a float where the plan said so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

import pytest

from vectormigrate_dagster.databases import TYPES
from vectormigrate_dagster.mapping.loss import Grade
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster_tests.conftest import Collections
from vectormigrate_dagster_tests.everything import everything
from vectormigrate_dagster_tests.matrix_runs import Origin, Side, fill, move, planned, sides
from vectormigrate_dagster_tests.observations import Record, as_json, bits, observe

PAIRS = list(product(TYPES, TYPES))


@pytest.fixture(scope="module")
def found(
    pinecone_collections: Collections,
    qdrant_collections: Collections,
    weaviate_collections: Collections,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mapping[str, Side]]:
    servers = {"pinecone": pinecone_collections, "qdrant": qdrant_collections, "weaviate": weaviate_collections}
    with sides(tmp_path_factory.mktemp("milvus"), servers) as found:
        yield found


@pytest.mark.parametrize("divided", [False, True], ids=["whole", "in-scopes"])
@pytest.mark.parametrize(("here", "there"), PAIRS, ids=[f"{a}-{b}" for a, b in PAIRS])
def test_h13_h16_h17_there_and_back_is_the_identity(
    here: str, there: str, divided: bool, found: Mapping[str, Side]
) -> None:
    can = found[here].can
    kind = can.id_kinds[0] if divided else can.id_kinds[-1]
    origin = fill(found[here], everything(can, kind, divided=divided))
    assert len({record.scope for record in origin.records}) == (2 if divided else 1)

    middle = found[there].new()
    first = planned(origin, middle)
    drop = left_behind(first)
    losses = tuple(row.code for row in planned(origin, middle, drop=drop).loss.rows if row.grade is Grade.LOSSY)
    assert all(code.endswith(".missing") for code in losses), losses
    plan = planned(origin, middle, drop=drop, allow=losses)
    assert plan.loss.refused == ()
    moved = move(origin, middle, plan)
    gone = {(refusal.scope, refusal.id) for refusal in moved.refused}
    assert gone == {record.key for record in origin.records if lacks(record, losses)}
    if not drop:
        assert observe(moved).silent == []

    end = found[here].new()
    back = planned(Origin(middle, moved.target, moved.after), end)
    assert not [row for row in back.loss.rows if row.blocks]
    returned = move(Origin(middle, moved.target, moved.after), end, back)
    assert returned.refused == []
    floats = {row.code[len("field.") : -len(".float")] for row in plan.loss.rows if row.code.endswith(".float")}
    if not can.dynamic_fields:
        floats -= {field.name for field in origin.schema.fields}  # what they were declared as comes back
    dropped = {code.removeprefix("vector.") for code in drop}
    kept = [record for record in origin.records if record.key not in gone]
    assert len(kept) >= 9
    assert plain(returned.after, set(), set()) == plain(kept, dropped, floats)


def left_behind(plan: Plan) -> tuple[str, ...]:
    """The vectors to drop because the other side has no place for them, or not for so many."""
    codes = [row.code.removesuffix(".metric") for row in plan.loss.refused]
    assert all(code.startswith(("vector.", "vectors.")) for code in codes), plan.loss.refused
    return tuple(dict.fromkeys("vector.far" if code.startswith("vectors.") else code for code in codes))


def lacks(record: Record, losses: tuple[str, ...]) -> bool:
    """Whether a record has no vector that the other side needs in every record."""
    return any(code.removeprefix("vector.").removesuffix(".missing") not in record.vectors for code in losses)


def plain(records: list[Record] | tuple[Record, ...], dropped: set[str], floats: set[str]) -> dict[object, object]:
    """Records as bits, without vectors that were left behind, with ints that became floats as floats."""
    return {
        (one.scope, one.kind, one.id): (
            as_json({key: as_float(value) if key in floats else value for key, value in one.payload.items()}),
            sorted((name, bits(vector)) for name, vector in one.vectors.items() if name not in dropped),
        )
        for one in records
    }


def as_float(value: object) -> object:
    return float(value) if type(value) is int and abs(value) <= 2**53 else value
