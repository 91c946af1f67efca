"""How Pinecone's ids are listed, cut into splits and fetched: complete, in order, and with few calls (H-07, H-27)."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vectormigrate_dagster.databases import Database, open_target
from vectormigrate_dagster.databases.pinecone import plan as pinecone_plan
from vectormigrate_dagster.databases.pinecone import reading
from vectormigrate_dagster.databases.pinecone.api import LIST_LIMIT, IdPage
from vectormigrate_dagster.databases.pinecone.listing import BEHIND, Listing
from vectormigrate_dagster.databases.pinecone.plan import MAX_SPLIT, plan_namespace
from vectormigrate_dagster.databases.pinecone.vectors import VectorsApi
from vectormigrate_dagster.errors import BrokenScan, DatabaseError, SchemaMismatch, Throttled
from vectormigrate_dagster.model import IdKind, Split
from vectormigrate_dagster.transfer.reader import read_split
from vectormigrate_dagster.transfer.throttle import Retry, Throttle
from vectormigrate_dagster_tests.databases.pinecone_support import (
    DENSE,
    SPARSE,
    endpoint,
    everything,
    ids_of,
    plain,
    schema,
    sparse,
)
from vectormigrate_dagster_tests.emulators.pinecone import PineconeStandIn, Settings

WHOLE = Split(kind=IdKind.TEXT)


class Server:
    """Lists ids as Pinecone does, and counts the calls."""

    def __init__(self, ids: list[str], limit: int = LIST_LIMIT) -> None:
        self.ids = sorted(set(ids))
        self.limit = limit
        self.calls = 0

    def page(self, prefix: str, token: str | None) -> IdPage:
        assert len(prefix) <= 512
        assert all("\x00" < character <= "\x7f" for character in prefix)
        self.calls += 1
        start = bisect.bisect_left(self.ids, prefix) if token is None else bisect.bisect_right(self.ids, token)
        matching = list(
            itertools.takewhile(lambda each: each.startswith(prefix), self.ids[start : start + self.limit + 1])
        )
        ids = matching[: self.limit]
        return IdPage(ids, ids[-1] if len(matching) > len(ids) else None)


def between(server: Server, after: str | None, last: str | None) -> list[str]:
    pages = list(Listing(server.page, "there").between(after, last))
    assert all(pages)
    return [value for page in pages for value in page]


########################################################################
# Ranges of ids
########################################################################

few = st.text(alphabet="ab\x01\x7f~", min_size=1, max_size=5)
bounds = st.one_of(st.none(), few, few.map(lambda prefix: prefix + BEHIND))


@settings(max_examples=300, deadline=None)
@given(ids=st.lists(few, max_size=60), after=bounds, last=bounds, limit=st.integers(1, 5))
def test_a_range_is_listed_complete_and_in_order(
    ids: list[str], after: str | None, last: str | None, limit: int
) -> None:
    server = Server(ids, limit)
    expected = [each for each in server.ids if (after is None or each > after) and (last is None or each <= last)]
    assert between(server, after, last) == expected


@pytest.mark.parametrize("name", ["uuid", "padded", "plain"])
def test_starting_after_an_id_costs_some_calls_and_not_as_many_as_there_are_pages_before_it(name: str) -> None:
    random = np.random.default_rng(0)
    ids = {
        "uuid": [random.bytes(16).hex() for _ in range(60_000)],
        "padded": [f"doc#{number:08}" for number in range(60_000)],
        "plain": [f"doc#{number}" for number in range(60_000)],
    }[name]
    server = Server(ids)
    near_the_end = server.ids[59_000]
    assert between(server, near_the_end, None) == server.ids[59_001:]
    assert server.calls < 800  # the last thousand are ten pages, the other calls find the way


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda page: IdPage(page.ids[::-1], page.token), id="descending"),
        pytest.param(lambda page: IdPage([page.ids[0], *page.ids], page.token), id="twice"),
        pytest.param(lambda page: IdPage(["a", "b"], "b"), id="the same page again"),
        pytest.param(lambda page: IdPage([], "nowhere"), id="nothing, without end"),
    ],
)
def test_a_server_that_breaks_its_order_ends_the_listing(broken: Callable[[IdPage], IdPage]) -> None:
    server = Server(["a", "b", "c", "d"], limit=2)
    with pytest.raises(BrokenScan, match="would lose records"):
        list(Listing(lambda prefix, token: broken(server.page(prefix, token)), "there").between())


def test_an_id_without_the_prefix_that_was_asked_for_ends_the_listing() -> None:
    listing = Listing(lambda _prefix, _token: IdPage(["x"], None), "there")
    with pytest.raises(BrokenScan, match="prefix 'ab'"):
        list(listing.between("ab", "ab" + BEHIND))


def test_a_listing_goes_on_after_the_last_id_when_tokens_expire() -> None:
    server = Server([f"{number:04}" for number in range(2000)], limit=10)
    expiring = {"0099", "1009", "1989"}
    refused: list[str] = []

    def page(prefix: str, token: str | None) -> IdPage:
        if token in expiring:
            expiring.remove(token)
            refused.append(token)
            raise DatabaseError("Invalid pagination token")
        return server.page(prefix, token)

    listed = [value for ids in Listing(page, "there").between() for value in ids]
    assert listed == server.ids
    assert refused == ["0099", "1009", "1989"]


def test_tokens_that_are_always_refused_are_an_error() -> None:
    server = Server([f"{number:04}" for number in range(100)], limit=10)

    def page(prefix: str, token: str | None) -> IdPage:
        if token is not None:
            raise DatabaseError("Invalid pagination token")
        return server.page(prefix, token)

    with pytest.raises(DatabaseError, match="Invalid pagination token"):
        list(Listing(page, "there").between())


########################################################################
# Splits
########################################################################


def kinds_of_ids() -> dict[str, list[str]]:
    random = np.random.default_rng(4)
    return {
        "hex": [random.bytes(8).hex() for _ in range(40_000)],
        "padded": [f"package-{number:09}" for number in range(40_000)],
        "plain": [f"{number}" for number in range(40_000)],
        "chunks": [f"doc{number // 20}#chunk{number % 20}" for number in range(40_000)],
        "skewed": [f"a{number:06}" for number in range(35_000)] + [f"z{number:06}" for number in range(5_000)],
    }


@pytest.mark.parametrize("name", kinds_of_ids())
def test_splits_of_a_large_namespace_tile_its_ids_evenly_enough(name: str) -> None:
    server = Server(kinds_of_ids()[name])
    listing = Listing(server.page, "there")
    plan = plan_namespace(listing, total=39_000, target_records=2000, scope="s")
    planned, parts = server.calls, len(plan.splits)
    assert not plan.exact
    assert planned <= 160 + 600 + 100 * 20
    assert plan.splits[0].after is None
    assert plan.splits[-1].last is None
    assert all(low.last == high.after is not None for low, high in itertools.pairwise(plan.splits))
    assert {split.scope for split in plan.splits} == {"s"}
    assert sum(split.records for split in plan.splits) == pytest.approx(39_000, rel=0.05)
    server.calls = 0
    found = [between(server, split.after, split.last) for split in plan.splits]
    assert [value for ids in found for value in ids] == server.ids
    assert max(map(len, found)) <= 4 * 2000
    assert server.calls <= 400 + 127 * parts


def test_no_split_is_planned_to_hold_more_than_a_resume_may_list() -> None:
    server = Server([f"{number:06x}" for number in range(70_000)])
    listing = Listing(server.page, "there")
    plan = plan_namespace(listing, total=70_000 * 100, target_records=5_000_000, scope=None)
    assert all(split.records <= MAX_SPLIT for split in plan.splits)
    assert len(plan.splits) >= 30


def test_ids_that_came_after_the_plan_are_in_a_split() -> None:
    server = Server([f"m{number:05}" for number in range(20_000)])
    splits = plan_namespace(Listing(server.page, "there"), total=20_000, target_records=1000, scope=None).splits
    late = ["!", "M", "m", "m0", "m00001x", "m1\x7f\x7f", "mé".replace("é", "~"), "n", "\x7f"]
    server.ids = sorted([*server.ids, *late])
    found = [value for split in splits for value in between(server, split.after, split.last)]
    assert found == server.ids


########################################################################
# Scans
########################################################################


def filled(database: Database, ids: list[str], vector: str = "_values") -> None:
    database.create(schema(DENSE.model_copy(update={"name": vector})))
    for start in range(0, len(ids), 1000):
        database.upsert(plain(ids[start : start + 1000], vector=vector))
    database.wait_visible()


@pytest.mark.parametrize("vector", ["_values", "meaning"])
def test_a_scan_reads_everything_in_pages_of_the_size_asked_for(
    pinecone_stand_in: PineconeStandIn, vector: str
) -> None:
    ids = [f"{number:05}" for number in np.random.default_rng(0).permutation(1234)]
    with open_target(endpoint(pinecone_stand_in)) as database:
        filled(database, ids, vector)
        assert database.count() == 1234
        batches = list(database.scan(WHOLE, batch_records=500))
        assert [len(batch) for batch in batches] == [500, 500, 234]
        assert ids_of(batches) == sorted(ids)
        assert ids_of(list(database.scan(WHOLE, after="01000", batch_records=500))) == sorted(ids)[1001:]


def test_short_and_empty_pages_end_nothing(pinecone_stand_in: PineconeStandIn) -> None:
    ids = [f"{number:05}" for number in range(450)]
    with open_target(endpoint(pinecone_stand_in)) as database:
        filled(database, ids)
        for records in (0, 1, 37):
            pinecone_stand_in.fault("short_page", "List", records=records, nth=2, times=2)
            assert ids_of(list(database.scan(WHOLE))) == ids
            pinecone_stand_in.clear_faults()


def test_an_expired_token_loses_nothing(pinecone_stand_in: PineconeStandIn) -> None:
    ids = [f"{number:05}" for number in range(950)]
    with open_target(endpoint(pinecone_stand_in)) as database:
        filled(database, ids)
        pinecone_stand_in.fault("expired_token", "List", nth=6)
        assert ids_of(list(database.scan(WHOLE))) == ids


def test_h27_ids_that_are_listed_and_not_fetched_are_asked_for_again(pinecone_stand_in: PineconeStandIn) -> None:
    ids = [f"{number:05}" for number in range(300)]
    with open_target(endpoint(pinecone_stand_in, missing_s=30.0)) as database:
        filled(database, ids)
        waits: list[float] = []
        database.sleep = waits.append
        pinecone_stand_in.fault("omit", "Fetch", ids=("00000", "00123", "00299"), times=3)
        batches = list(database.scan(WHOLE, batch_records=200))
        assert ids_of(batches) == ids
        assert [batch.vanished for batch in batches] == [(), ()]
        assert waits


@pytest.mark.parametrize(("vector", "method"), [("_values", "Fetch"), ("meaning", "FetchDocuments")])
def test_h27_ids_that_are_never_fetched_are_told_as_vanished(
    pinecone_stand_in: PineconeStandIn, vector: str, method: str
) -> None:
    ids = [f"{number:05}" for number in range(300)]
    gone = ("00000", "00123", *(f"{number:05}" for number in range(200, 300)))
    with open_target(endpoint(pinecone_stand_in, missing_s=0.2)) as database:
        filled(database, ids, vector)
        pinecone_stand_in.fault("omit", method, ids=gone, times=None)
        batches = list(database.scan(WHOLE, batch_records=100))
        assert [batch.vanished for batch in batches] == [("00000",), ("00123",), gone[2:]]
        assert [len(batch) for batch in batches] == [99, 99, 0]
        assert ids_of(batches) == [value for value in ids if value not in gone]
        # The reader of a transfer goes on behind them, and accounts for each.
        pages = list(read_split(database, WHOLE, throttle=Throttle(), batch_records=100))  # type: ignore[arg-type]
        assert [value for page in pages for value in page.vanished] == list(gone)


def test_records_that_are_deleted_while_they_are_read_are_told_as_vanished(pinecone_stand_in: PineconeStandIn) -> None:
    ids = [f"{number:05}" for number in range(400)]
    with open_target(endpoint(pinecone_stand_in, missing_s=0.0)) as database:
        filled(database, ids)
        api = database._api()  # type: ignore[attr-defined]
        honest = api.fetch

        def deleting(namespace: str, asked: Any) -> Any:
            api.index.delete(ids=["00150"], namespace=namespace)
            return honest(namespace, asked)

        api.fetch = deleting
        batches = list(database.scan(WHOLE, batch_records=400))
        assert ids_of(batches) + [value for batch in batches for value in batch.vanished] == [
            *(value for value in ids if value != "00150"),
            "00150",
        ]


def test_an_error_in_the_middle_is_repaired_by_a_scan_after_the_last_id(pinecone_stand_in: PineconeStandIn) -> None:
    ids = [f"{number:05}" for number in range(800)]
    with open_target(endpoint(pinecone_stand_in)) as database:
        filled(database, ids)
        pinecone_stand_in.fault("throttle", "Fetch", nth=3, retry_after=0)
        scan = database.scan(WHOLE, batch_records=200)
        with pytest.raises(Throttled) as raised:
            list(scan)
        assert raised.value.retry_after == 0
        for method in ("List", "Fetch"):
            for nth, what in ((2, "unavailable"), (5, "throttle"), (7, "reset_before"), (9, "reset_after")):
                pinecone_stand_in.fault(what, method, nth=nth)
        throttle = Throttle(source=Retry(first_seconds=0.001, longest_seconds=0.01))
        pages = read_split(database, WHOLE, throttle=throttle, batch_records=200)  # type: ignore[arg-type]
        assert ids_of(pages) == ids


def test_requests_stay_below_the_limits_of_addresses_and_answers(pinecone_stand_in: PineconeStandIn) -> None:
    """The stand-in refuses addresses above 8 KB, and 413s and 400s what is above its other limits."""
    ids = [f"{'/' * 500}{number:05}" for number in range(60)] + [
        f"{number}#é".replace("é", "%") for number in range(90)
    ]
    with open_target(endpoint(pinecone_stand_in)) as database:
        filled(database, ids)
        pinecone_stand_in.clear_faults()
        assert ids_of(list(database.scan(WHOLE))) == sorted(ids)
        assert pinecone_stand_in.calls()["Fetch"] >= 60 * 1500 // 8192
    wide = VectorsApi(None, (DENSE.model_copy(update={"dim": 20_000}),))
    assert max(map(len, wide.requests(ids))) * 20_000 * 13 <= 4 * 10**6


def test_several_fetches_are_under_way_at_once(pinecone_stand_in: PineconeStandIn) -> None:
    ids = [f"{number:05}" for number in range(1000)]
    with open_target(endpoint(pinecone_stand_in)) as database:
        filled(database, ids)
        api = database._api()  # type: ignore[attr-defined]
        honest, running, most = api.fetch, set(), []

        def counting(namespace: str, asked: Any) -> Any:
            running.add(asked[0])
            most.append(len(running))
            try:
                return honest(namespace, asked)
            finally:
                running.remove(asked[0])

        api.fetch = counting
        pinecone_stand_in.fault("delay", "Fetch", seconds=0.05, times=None)
        assert ids_of(list(database.scan(WHOLE, batch_records=1000))) == ids
        assert max(most) > 1


def test_planning_and_counting_are_exact_while_all_ids_can_be_listed(pinecone_stand_in: PineconeStandIn) -> None:
    ids = [f"{number:05}" for number in range(2500)]
    with open_target(endpoint(pinecone_stand_in)) as database:
        filled(database, ids)
        pinecone_stand_in.clear_faults()
        splits = database.plan_splits(1000)
        assert pinecone_stand_in.calls()["List"] == 25
        assert [split.records for split in splits] == [833, 833, 834]
        assert ids_of(everything(database, splits)) == ids


def test_a_count_of_more_than_is_listed_to_plan_is_exact_too(
    pinecone_stand_in: PineconeStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinecone_plan, "_LISTED_PAGES", 3)
    monkeypatch.setattr(pinecone_plan, "_PAGES_PER_SPLIT", 0)
    monkeypatch.setattr(reading, "_COUNTED_AT_ONCE", 500)
    with open_target(endpoint(pinecone_stand_in)) as database:
        filled(database, [f"{number:x}" for number in range(2345)])
        assert database.count() == 2345
        splits = database.plan_splits(400)
        assert len(splits) > 3
        assert len(ids_of(everything(database, splits))) == 2345


@pytest.mark.parametrize("what", ["throttle", "unavailable"])
def test_h28_planning_counting_and_scanning_repeat_the_request_that_failed_and_no_other(
    pinecone_stand_in: PineconeStandIn, monkeypatch: pytest.MonkeyPatch, what: Any
) -> None:
    monkeypatch.setattr(pinecone_plan, "_LISTED_PAGES", 3)
    monkeypatch.setattr(pinecone_plan, "_PAGES_PER_SPLIT", 0)
    monkeypatch.setattr(reading, "_COUNTED_AT_ONCE", 500)
    ids = [f"{number:04}" for number in range(2500)]
    reads: dict[str, Callable[[Database], Any]] = {
        "count": lambda database: database.count(),
        "plan": lambda database: [split.after for split in database.plan_splits(400)],
        "scan": lambda database: ids_of(database.scan(WHOLE, batch_records=500)),
    }
    retry = Retry(first_seconds=0.001, longest_seconds=0.002)
    with open_target(endpoint(pinecone_stand_in)) as database:
        filled(database, ids)
        for read in reads.values():
            pinecone_stand_in.clear_faults()
            undisturbed = read(database)
            calls = sum(pinecone_stand_in.calls().values())
            pinecone_stand_in.clear_faults()
            for method in ("List", "Fetch", "DescribeIndexStats", "ListNamespaces"):
                for nth in range(1, 60, 4):
                    pinecone_stand_in.fault(what, method, nth=nth, retry_after=0.0 if what == "throttle" else None)
            assert retry.call(partial(read, database)) == undisturbed
            assert sum(pinecone_stand_in.calls().values()) <= 1.5 * calls + 4


def test_namespaces_are_listed_page_by_page(pinecone_stand_in: PineconeStandIn) -> None:
    names = [f"tenant-{number:03}" for number in range(230)]
    with open_target(endpoint(pinecone_stand_in)) as database:
        database.create(schema())
        for name in names:
            database.upsert(plain(["a"], name))
        database.wait_visible()
        pinecone_stand_in.clear_faults()
        pinecone_stand_in.fault("unavailable", "ListNamespaces", nth=3)
        assert Retry(first_seconds=0).call(database.scopes) == names
        assert pinecone_stand_in.calls()["ListNamespaces"] == 4


def test_sparse_values_that_the_schema_does_not_tell_are_no_silent_loss(pinecone_stand_in: PineconeStandIn) -> None:
    """Indexes that are older than schemas may hold them beside `_values`."""
    with open_target(endpoint(pinecone_stand_in)) as database:
        hybrid = schema(DENSE, SPARSE)
        database.create(hybrid)
        batch = plain(["a", "b"])
        database.upsert(replace(batch, vectors={**batch.vectors, "_sparse_values": sparse({1: 2.0}, None)}))
        database.wait_visible()
        api = database._api()  # type: ignore[attr-defined]
        api.vectors = api.vectors[:1]
        with pytest.raises(SchemaMismatch, match="record 'a' holds '_sparse_values'"):
            list(database.scan(WHOLE))


@pytest.mark.parametrize("vector", ["_values", "meaning"])
def test_reads_wait_for_what_this_object_has_written(vector: str) -> None:
    with (
        PineconeStandIn(Settings(visible_after=6)) as server,
        open_target(endpoint(server, visible_s=30.0)) as database,
    ):
        database.sleep = lambda _: None
        filled(database, [f"{number:03}" for number in range(100)], vector)
        assert database.count() == 100
        database.upsert(plain(["new"], vector=vector))
        assert ids_of(everything(database))[-1] == "new"
