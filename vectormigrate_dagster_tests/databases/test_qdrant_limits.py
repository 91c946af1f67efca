"""How much one request to Qdrant may hold, and which answers count as written (H-19)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import grpc
from qdrant_client.conversions.conversion import grpc_to_payload

from vectormigrate_dagster.databases import Database, capabilities_of, open_source, open_target
from vectormigrate_dagster.databases.qdrant import grpc as qdrant_grpc
from vectormigrate_dagster.databases.qdrant import limits as limits_of_requests
from vectormigrate_dagster.databases.qdrant import point_writing
from vectormigrate_dagster.databases.source import Source
from vectormigrate_dagster.errors import (
    InvalidRecord,
    Throttled,
    Unavailable,
)
from vectormigrate_dagster.model import (
    Batch,
    Dense,
    IdColumn,
    IdKind,
    Split,
)
from vectormigrate_dagster.transfer import Settings as TransferSettings
from vectormigrate_dagster.transfer import transfer_split
from vectormigrate_dagster_tests.databases.qdrant_support import endpoint, ids_of, plain, schema
from vectormigrate_dagster_tests.emulators.qdrant import QdrantStandIn, Settings
from vectormigrate_dagster_tests.same_mapper import SameMapper
from vectormigrate_dagster_tests.transfer.conftest import impatient

########################################################################
# Limits
########################################################################


def test_strict_limits_on_writes_are_kept(faulty: Database, qdrant_stand_in: QdrantStandIn) -> None:
    strict = {"enabled": True, "upsert_max_batchsize": 4, "read_rate_limit": 600, "search_max_batchsize": 2}
    with faulty._client("write") as client:
        client.update_collection("things", strict_mode_config=strict)
    qdrant_stand_in.clear_faults()
    faulty.upsert(plain(range(10)))
    assert qdrant_stand_in.calls()["Upsert"] == 3
    assert len(faulty.fetch(IdColumn.of(IdKind.U64, range(10))).batch) == 10
    assert len(faulty.search(np.ones((5, 2), np.float32), 2).ids) == 5


def test_limits_that_are_set_during_the_load_are_noticed(faulty: Database) -> None:
    faulty.upsert(plain(range(20)))
    scan = faulty.scan(Split(kind=IdKind.U64), batch_records=10)
    assert len(next(scan)) == 10
    with faulty._client("write") as client:
        client.update_collection("things", strict_mode_config={"enabled": True, "max_query_limit": 3})
    with pytest.raises(Throttled, match="strict mode"):
        next(scan)
    rest = list(faulty.scan(Split(kind=IdKind.U64), "9", 10))
    assert [len(batch) for batch in rest] == [3, 3, 3, 1]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(1, 30))
def test_requests_are_bounded_and_lose_nothing(lengths: list[int], most: int) -> None:
    payloads = [{"t": "é" * length} for length in lengths]
    vectors = np.arange(3 * len(lengths), dtype=np.float32).reshape(-1, 3)
    batch = Batch(IdColumn.of(IdKind.U64, range(len(lengths))), None, {"": Dense(vectors)}, payloads)
    limits = replace(limits_of_requests.Limits.of(schema(), capabilities_of("qdrant")), batch=most)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits_of_requests, "REQUEST_BYTES", 500)
        patch.setattr(point_writing, "REQUEST_BYTES", 500)
        sent = list(limits_of_requests.pieces_of(batch, limits))
        frames = [b"".join(points) for points in point_writing.requests(batch, limits, "here")]
    assert [value for piece in sent for value in piece.ids.to_pylist()] == list(range(len(lengths)))
    assert [row for piece in sent for row in piece.payloads] == payloads
    assert all(len(piece) == 1 or sum(limits_of_requests._record_bytes(piece)) <= 500 for piece in sent)
    requests = [grpc.UpsertPoints.FromString(frame) for frame in frames]
    points = [point for request in requests for point in request.points]
    assert [point.id.num for point in points] == list(range(len(lengths)))
    assert [grpc_to_payload(point.payload) for point in points] == payloads
    assert [list(point.vectors.vectors.vectors[""].dense.data) for point in points] == vectors.tolist()
    assert all(len(request.points) == 1 or len(frame) <= 500 for request, frame in zip(requests, frames, strict=True))
    assert max(*map(len, sent), *(len(request.points) for request in requests)) <= most


def test_a_batch_above_the_request_limit_is_sent_in_pieces(transport: str) -> None:
    """By bytes with payloads: 40 records of 1 MB are more than the 32 MB that one request may have."""
    with QdrantStandIn() as server, open_target(endpoint(server, transport, "things")) as database:
        database.create(schema())
        server.clear_faults()
        database.upsert(plain(range(40), payload={"text": "x" * 2**20}))
        assert server.calls()["Upsert"] == 2
        assert database.count() == 40


def test_a_record_that_no_request_can_hold_is_refused() -> None:
    with (
        QdrantStandIn(Settings(max_request_bytes=1000)) as server,
        open_target(endpoint(server, "rest", "things")) as database,
    ):
        database.create(schema())
        with pytest.raises(InvalidRecord, match="too large"):
            database.upsert(plain([1], payload={"text": "x" * 2000}))


def test_an_answer_that_is_too_large_makes_the_page_smaller(faulty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty.upsert(plain(range(50)))
    honest = faulty._wire.scroll
    asked = []

    def limited(*args: Any, limit: int, **settings: Any) -> Any:
        asked.append(limit)
        if limit > 6:
            raise Unavailable("Received message larger than max (9 vs. 4)")
        return honest(*args, limit=limit, **settings)

    monkeypatch.setattr(faulty._wire, "scroll", limited)
    assert ids_of(list(faulty.scan(Split(kind=IdKind.U64), batch_records=40))) == list(range(50))
    assert asked[:4] == [40, 20, 10, 5]
    assert set(asked[4:]) == {5}


########################################################################
# Acknowledgements
########################################################################


@pytest.mark.parametrize("status", ["acknowledged", "wait_timeout"])
def test_h19_only_what_is_applied_counts_as_written(
    faulty: Database, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faulty._wire, "upsert", lambda *_args, **_settings: status)
    with pytest.raises(Unavailable, match=status) as caught:
        faulty.upsert(plain([1]))
    assert caught.value.transient


def test_h19_every_write_waits_until_it_is_applied(faulty: Database, qdrant_stand_in: QdrantStandIn) -> None:
    """What cannot be applied is told to who waits, and lost by this server for who does not."""
    faulty.upsert(plain([1]))
    qdrant_stand_in.fault("fail_when_applied", "*", times=None)
    for write in (partial(faulty.upsert, plain([2])), partial(faulty.delete, IdColumn.of(IdKind.U64, [1]))):
        with pytest.raises(Unavailable, match="told to fail when it applies"):
            write()
    assert qdrant_stand_in.lost() == []


@pytest.mark.parametrize("status", [3, 99])
def test_h19_a_status_that_the_client_cannot_name_is_no_acknowledgement(
    status: int, faulty: Database, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may say `ClockRejected` (3) or what later versions add; no record is to blame."""
    if transport != "grpc":
        pytest.skip("statuses are numbers over gRPC")
    faulty.upsert(plain([1]))  # connects
    answer = grpc.PointsOperationResponse(result=grpc.UpdateResult(status=status)).SerializeToString()
    monkeypatch.setattr(qdrant_grpc, "_call", lambda *_: answer)
    for write in (partial(faulty.upsert, plain([1])), partial(faulty.delete, IdColumn.of(IdKind.U64, [1]))):
        with pytest.raises(Unavailable, match=f"status '{status}'"):
            write()


def _recorded_until_it_fails(source: Source, target: Database) -> list[str]:
    """Move all of the source until an error; the checkpoints that were recorded before it."""
    recorded: list[str] = []
    moving = transfer_split(
        source=source,
        target=target,
        mapper=SameMapper(),
        split=Split(kind=IdKind.U64),
        settings=TransferSettings(batch_records=10, page_records=10, writers=1),
        throttle=impatient(max_retries=0),
    )
    try:
        for checkpoint in moving:
            recorded.append(checkpoint.after)  # one by one, as an error may follow
    except Unavailable:
        return recorded
    raise AssertionError("the transfer came to its end")


def test_h19_a_server_that_dies_between_two_acknowledgements_moves_no_checkpoint(
    qdrant_stand_in: QdrantStandIn, faulty: Database, transport: str
) -> None:
    """The third write is cut before it is done: what is recorded must be in the target."""
    with (
        QdrantStandIn() as origin,
        open_target(endpoint(origin, transport, "origin")) as source,
        open_source(endpoint(origin, transport, "origin")) as reader,
    ):
        source.create(schema())
        source.upsert(plain(range(50)))
        qdrant_stand_in.clear_faults()
        qdrant_stand_in.fault("reset_before", "Upsert", nth=3, times=None)
        recorded = _recorded_until_it_fails(reader, faulty)
        qdrant_stand_in.clear_faults()
        last = int(recorded[-1]) if recorded else -1
        written = set(ids_of(list(faulty.scan(Split(kind=IdKind.U64)))))
        assert written >= set(range(last + 1))
        assert len(written) < 50
