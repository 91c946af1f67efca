"""Weaviate over a network that fails: throttling, lost replies, sick shards, keys, addresses, TLS (H-9, H-28)."""

from __future__ import annotations

import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from vectormigrate_dagster.databases import Database, Endpoint, open_source, open_target
from vectormigrate_dagster.databases.endpoint import WeaviateOptions
from vectormigrate_dagster.databases.weaviate.wire import grpc_target
from vectormigrate_dagster.errors import (
    AuthenticationFailed,
    BrokenScan,
    ConfigurationError,
    DatabaseError,
    NotFound,
    Throttled,
    Unavailable,
)
from vectormigrate_dagster.model import FieldType, IdKind, Split
from vectormigrate_dagster_tests.databases.waits import Waits
from vectormigrate_dagster_tests.databases.weaviate_support import (
    batch,
    endpoint,
    everything,
    field,
    ids,
    payloads_of,
    schema,
)
from vectormigrate_dagster_tests.emulators.weaviate import Settings, WeaviateStandIn

CALLS: dict[str, Callable[[Database], Any]] = {
    "Search": lambda things: list(things.scan(Split(kind=IdKind.UUID))),
    "Aggregate": lambda things: things.count(),
    "GetClass": lambda things: things.describe(),
    "BatchObjects": lambda things: things.upsert(batch([2])),
    "BatchDelete": lambda things: things.delete(ids([2])),
}
OVER_REST = {"GetClass"}


@pytest.fixture
def things(weaviate_stand_in: WeaviateStandIn) -> Iterator[Database]:
    with open_target(endpoint(weaviate_stand_in)) as database:
        database.create(schema(fields=[field("n", FieldType.INT64)]))
        database.upsert(batch([1]))
        yield database


########################################################################
# Errors over the wire
########################################################################


@pytest.mark.parametrize("method", CALLS)
def test_h28_throttling_is_told(things: Database, weaviate_stand_in: WeaviateStandIn, method: str) -> None:
    weaviate_stand_in.fault("throttle", method, retry_after=7.0)
    with pytest.raises(Throttled, match="'things'") as caught:
        CALLS[method](things)
    assert caught.value.retry_after == (7.0 if method in OVER_REST else None)
    CALLS[method](things)


@pytest.mark.parametrize("what", ["unavailable", "reset_before", "reset_after"])
@pytest.mark.parametrize("method", CALLS)
def test_h28_a_lost_call_is_unavailable_and_made_once(
    things: Database, weaviate_stand_in: WeaviateStandIn, method: str, what: Any
) -> None:
    weaviate_stand_in.clear_faults()
    weaviate_stand_in.fault(what, method)
    with pytest.raises(Unavailable, match="'things'"):
        CALLS[method](things)
    assert weaviate_stand_in.calls()[method] == 1
    CALLS[method](things)


def test_h09_a_write_whose_answer_was_lost_can_be_repeated(
    things: Database, weaviate_stand_in: WeaviateStandIn
) -> None:
    weaviate_stand_in.fault("reset_after", "BatchObjects")
    records = batch([5, 6], [{"n": 5}, {"n": 6}])
    with pytest.raises(Unavailable):
        things.upsert(records)
    assert things.upsert(records) == []
    assert payloads_of(things) == {1: {}, 5: {"n": 5}, 6: {"n": 6}}


def test_a_call_that_takes_too_long_is_unavailable(weaviate_stand_in: WeaviateStandIn) -> None:
    with open_target(endpoint(weaviate_stand_in, timeout_s=0.3)) as things:
        things.create(schema())
        for method in ("Aggregate", "GetClass"):
            weaviate_stand_in.fault("delay", method, seconds=1.0)
            with pytest.raises(Unavailable, match=r"in 0\.3 s"):
                CALLS[method](things)


def test_a_page_out_of_order_ends_the_scan_and_a_short_one_does_not(
    things: Database, weaviate_stand_in: WeaviateStandIn
) -> None:
    things.upsert(batch(range(40)))
    weaviate_stand_in.fault("short_page", "Search", times=3)
    assert [len(part) for part in everything(things, 10)] == [9, 9, 9, 10, 3]
    weaviate_stand_in.fault("wrong_order", "Search", nth=3)
    with pytest.raises(BrokenScan, match="strictly"):
        everything(things, 10)


########################################################################
# Refusals, and faults of the server that look like them
########################################################################


def test_a_record_that_the_server_refuses_is_named_and_the_others_are_written(
    things: Database, weaviate_stand_in: WeaviateStandIn
) -> None:
    refused = str(uuid.UUID(int=7))
    about = "something about this object"
    weaviate_stand_in.fault("refuse", "BatchObjects", ids=(refused,), message=about, times=None)
    refusals = things.upsert(batch([6, 7, 8]))
    assert [(one.id, one.reason) for one in refusals] == [(refused, "something about this object")]
    assert list(payloads_of(things)) == [1, 6, 8]


@pytest.mark.parametrize("text", ["the moon is wrong", "put object: import into non-existing shard"])
def test_a_record_that_is_refused_in_unknown_words_is_sent_again(
    things: Database, weaviate_stand_in: WeaviateStandIn, text: str
) -> None:
    weaviate_stand_in.clear_faults()
    weaviate_stand_in.fault("refuse", "BatchObjects", ids=(str(uuid.UUID(int=7)),), message=text)
    assert things.upsert(batch([6, 7, 8])) == []
    assert weaviate_stand_in.calls()["BatchObjects"] == 2
    assert list(payloads_of(things)) == [1, 6, 7, 8]


def test_a_storage_that_stays_sick_leaves_no_record_out(things: Database, weaviate_stand_in: WeaviateStandIn) -> None:
    """One shard of several may be, so that not every record is concerned."""
    text = 'put local object: shard="x1": write: input/output error'
    weaviate_stand_in.fault("refuse", "BatchObjects", ids=(str(uuid.UUID(int=7)),), message=text, times=None)
    with pytest.raises(Unavailable, match="cannot store some records: put local object"):
        things.upsert(batch([6, 7, 8]))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("put object: store is read-only due to: disk usage too high", Unavailable),
        ("put object: not enough memory", Throttled),
        ("429 too many requests", Throttled),
        ('broadcast: cannot achieve consistency level "QUORUM"', Unavailable),
        ("put object: context deadline exceeded", Unavailable),
        ("write: no space left on device", DatabaseError),
        ("could not find index for class Things. It might have been deleted in the meantime", NotFound),
    ],
)
def test_a_fault_of_the_server_is_no_refusal(
    things: Database, weaviate_stand_in: WeaviateStandIn, text: str, error: type[DatabaseError]
) -> None:
    weaviate_stand_in.fault("refuse", "BatchObjects", ids=(str(uuid.UUID(int=7)),), message=text)
    with pytest.raises(error) as caught:
        things.upsert(batch([6, 7, 8]))
    assert type(caught.value) is error
    assert things.upsert(batch([6, 7, 8])) == []


def test_a_value_that_sounds_like_a_fault_is_a_refusal(things: Database, weaviate_stand_in: WeaviateStandIn) -> None:
    text = "invalid date property 'd' on class 'Things': requires ... but the given value is 'store is read-only'"
    weaviate_stand_in.fault("refuse", "BatchObjects", ids=(str(uuid.UUID(int=7)),), message=text)
    assert [refusal.reason for refusal in things.upsert(batch([6, 7, 8]))] == [text]


def test_a_server_that_refuses_every_record_in_the_same_words_is_not_believed(
    things: Database, weaviate_stand_in: WeaviateStandIn
) -> None:
    names = tuple(str(uuid.UUID(int=number)) for number in (6, 7))
    weaviate_stand_in.fault("refuse", "BatchObjects", ids=names, message="the moon is wrong")
    with pytest.raises(Unavailable, match="refuses every record: the moon is wrong"):
        things.upsert(batch([6, 7]))


def test_a_shard_that_is_read_only_is_unavailable(things: Database, weaviate_stand_in: WeaviateStandIn) -> None:
    weaviate_stand_in.fault("read_only", "BatchObjects")
    with pytest.raises(Unavailable, match="read-only"):
        things.upsert(batch([6, 7]))


def test_vectors_that_wait_for_their_index_are_waited_for() -> None:
    waits = Waits(1000)
    with (
        WeaviateStandIn(Settings(index_after=0.2)) as server,
        open_target(endpoint(server), sleep=waits) as things,
    ):
        things.create(schema())
        things.upsert(batch([1, 2, 3]))
        assert len(things.fetch(ids([1, 2, 3])).batch) == 3
        things.finish_bulk_load()
        assert waits.seconds
        assert len(things.search(np.ones((1, 2), np.float32), 5, vector="v").ids[0]) == 3


########################################################################
# Keys, addresses, TLS
########################################################################


def test_a_wrong_key_is_told_by_every_call() -> None:
    with WeaviateStandIn(Settings(api_key="right")) as server:
        with open_target(endpoint(server)) as things:
            things.create(schema())
            things.ping()
        for key in ("wrong", None):
            secret = None if key is None else SecretStr(key)
            asked = Endpoint(type="weaviate", url=server.url, api_key=secret, collection="things",
                             options=WeaviateOptions(grpc_url=server.grpc_url))  # fmt: skip
            with open_target(asked) as things:
                for call in (things.ping, things.probe, things.describe, things.count, things.finish_bulk_load):
                    with pytest.raises(AuthenticationFailed, match="'things'") as caught:
                        call()
                    assert "wrong" not in str(caught.value)


def test_a_key_that_may_only_read_reads() -> None:
    with WeaviateStandIn(Settings(api_key="owner", read_only_api_key="reader")) as server:
        with open_target(endpoint(server)) as things:
            things.create(schema())
            things.upsert(batch([1, 2]))
        asked = Endpoint(type="weaviate", url=server.url, api_key=SecretStr("reader"), collection="things",
                         options=WeaviateOptions(grpc_url=server.grpc_url))  # fmt: skip
        with open_source(asked) as source:
            assert source.count() == 2
            (split,) = source.plan_splits(10)
            assert sum(len(part) for part in source.scan(split)) == 2
        with open_target(asked) as target, pytest.raises(AuthenticationFailed):
            target.upsert(batch([3]))


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_both_ports_have_to_answer(weaviate_stand_in: WeaviateStandIn) -> None:
    nobody = f"http://127.0.0.1:{_free_port()}"
    for url, grpc_url in ((nobody, weaviate_stand_in.grpc_url), (weaviate_stand_in.url, nobody)):
        options = WeaviateOptions(grpc_url=grpc_url, timeout_s=5)
        asked = Endpoint(type="weaviate", url=url, collection="things", options=options)
        with open_target(asked) as things, pytest.raises(Unavailable, match="'things'"):
            things.ping()


def test_a_server_that_was_away_is_used_again(things: Database, weaviate_stand_in: WeaviateStandIn) -> None:
    assert things.count() == 1
    weaviate_stand_in.restart()
    for _ in range(50):
        try:
            assert things.count() == 1
            break
        except Unavailable:
            things.sleep(0.05)
    else:
        pytest.fail("it is not reached again")


def test_a_closed_collection_says_so(things: Database) -> None:
    things.close()
    things.close()
    with pytest.raises(Unavailable, match="was closed"):
        things.count()


@pytest.mark.parametrize(
    ("url", "grpc_url", "target", "secure"),
    [
        ("http://localhost:8080", None, "localhost:50051", False),
        ("http://[::1]:8080", None, "[::1]:50051", False),
        ("https://db.example.com", None, "db.example.com:50051", True),
        ("https://db.example.com", "https://rpc.example.com", "rpc.example.com:443", True),
        ("https://db.example.com", "http://10.0.0.1:9", "10.0.0.1:9", False),
        ("https://abc.c0.gcp.weaviate.cloud", None, "grpc-abc.c0.gcp.weaviate.cloud:443", True),
        ("https://abc.weaviate.network", None, "abc.grpc.weaviate.network:443", True),
    ],
)  # fmt: skip
def test_the_grpc_port_is_found(url: str, grpc_url: str | None, target: str, secure: bool) -> None:
    assert grpc_target(url, grpc_url) == (target, secure)


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that only those trust who are given it, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    return certificate, key


def test_tls_needs_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    with WeaviateStandIn(Settings(certificate=str(certificate), key=str(key))) as server:
        with open_target(endpoint(server, ca_file=certificate)) as things:
            things.ping()
            things.create(schema())
            things.upsert(batch([1]))
            assert things.count() == 1
        with open_target(endpoint(server, timeout_s=3)) as things, pytest.raises(Unavailable):
            things.ping()
    broken = tmp_path / "broken.pem"
    for problem in (tmp_path / "none.pem", broken):
        with (
            open_target(endpoint(server, ca_file=problem)) as things,
            pytest.raises(ConfigurationError, match="ca_file"),
        ):
            things.ping()
        broken.write_text("no certificate")


def test_another_kind_of_server_is_recognised(weaviate_stand_in: WeaviateStandIn) -> None:
    """REST at the port of something else."""
    url = weaviate_stand_in.url + "/nowhere"
    asked = Endpoint(type="weaviate", url=url, collection="things")
    with open_target(asked) as things, pytest.raises(NotFound, match="'things'"):
        things.probe()
