"""Qdrant over a network that fails: throttling, lost replies, full disks, keys, addresses, TLS (H-28)."""

from __future__ import annotations

import socket
import subprocess
import threading
import warnings
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from vectormigrate_dagster.databases import Database, Endpoint, open_source, open_target
from vectormigrate_dagster.databases.endpoint import QdrantOptions
from vectormigrate_dagster.databases.qdrant import errors as qdrant_errors
from vectormigrate_dagster.errors import (
    AuthenticationFailed,
    ConfigurationError,
    DatabaseError,
    InvalidRecord,
    NotFound,
    SchemaMismatch,
    Throttled,
    Unavailable,
)
from vectormigrate_dagster.model import Batch, Dense, IdColumn, IdKind, Metric, Multi, Sparse, Split, VectorSchema
from vectormigrate_dagster.transfer import Retry
from vectormigrate_dagster_tests.databases.qdrant_support import (
    PLAIN,
    RICH,
    Opener,
    endpoint,
    everything,
    ids_of,
    plain,
    schema,
)
from vectormigrate_dagster_tests.emulators.qdrant import QdrantServer, QdrantStandIn, Settings
from vectormigrate_dagster_tests.servers.proxy import TcpProxy

########################################################################
# Errors over the wire
########################################################################

READS = ("Scroll", "Get", "Count", "GetCollection", "QueryBatch")


def read(database: Database, method: str) -> Any:
    calls: dict[str, Callable[[], Any]] = {
        "Scroll": lambda: list(database.scan(Split(kind=IdKind.U64))),
        "Get": lambda: database.fetch(IdColumn.of(IdKind.U64, [1])),
        "Count": database.count,
        "GetCollection": database.describe,
        "QueryBatch": lambda: database.search(np.ones((1, 2), np.float32), 1),
    }
    return calls[method]()


@pytest.mark.parametrize("method", [*READS, "Upsert", "Delete"])
def test_h28_throttling_is_told_with_its_pause(faulty: Database, qdrant_stand_in: QdrantStandIn, method: str) -> None:
    faulty.upsert(plain([1]))
    work = {
        "Upsert": lambda: faulty.upsert(plain([2])),
        "Delete": lambda: faulty.delete(IdColumn.of(IdKind.U64, [2])),
    }.get(method, lambda: read(faulty, method))
    for seconds in (7.0, None):
        qdrant_stand_in.fault("throttle", method, retry_after=seconds)
        with pytest.raises(Throttled, match="'things'") as caught:
            work()
        assert caught.value.retry_after == seconds
        qdrant_stand_in.clear_faults()
    work()


@pytest.mark.parametrize("method", [*READS, "Upsert"])
@pytest.mark.parametrize("fault", ["unavailable", "reset_before", "reset_after"])
def test_h28_what_may_pass_is_transient(
    faulty: Database, qdrant_stand_in: QdrantStandIn, fault: str, method: str
) -> None:
    faulty.upsert(plain([1]))
    qdrant_stand_in.fault(fault, method)
    with pytest.raises(Unavailable, match="'things'") as caught:
        faulty.upsert(plain([2])) if method == "Upsert" else read(faulty, method)
    assert caught.value.transient
    faulty.upsert(plain([2])) if method == "Upsert" else read(faulty, method)
    assert faulty.count() == (2 if method == "Upsert" else 1)


@pytest.mark.parametrize(
    ("header", "seconds"), [("3", 3.0), ("0.5", 0.5), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("soon", None)]
)
def test_a_pause_may_be_a_number_or_a_date(header: str, seconds: float | None) -> None:
    assert qdrant_errors.retry_after(header) == seconds


def test_a_full_disk_is_no_fault_of_records(faulty: Database, qdrant_stand_in: QdrantStandIn) -> None:
    qdrant_stand_in.fault("disk_full", "Upsert")
    with pytest.raises(DatabaseError, match=r"disk of .*'things'.* is full") as caught:
        faulty.upsert(plain([1]))
    assert type(caught.value) is DatabaseError
    faulty.upsert(plain([1]))


def test_a_collection_that_is_dropped_during_the_load_is_not_found(
    faulty: Database, qdrant_stand_in: QdrantStandIn, transport: str
) -> None:
    faulty.upsert(plain([1]))
    with open_target(endpoint(qdrant_stand_in, transport, "things")) as other:
        other.drop()
        there_is_none = f"there is no qdrant collection 'things' at {faulty.endpoint.url}"
        fetch = partial(faulty.fetch, IdColumn.of(IdKind.U64, [1]))
        for call in (partial(faulty.upsert, plain([2])), faulty.describe, faulty.count, fetch):
            with pytest.raises(NotFound) as lost:
                call()
            assert str(lost.value) == there_is_none
        other.create(schema(VectorSchema(name="other", dim=2, metric=Metric.DOT)))
    with pytest.raises(DatabaseError) as caught:
        faulty.upsert(plain([2]))
    assert isinstance(caught.value, SchemaMismatch | InvalidRecord)


def test_numbers_that_are_none_are_refused_by_name(on_server: Opener) -> None:
    database = on_server()
    database.create(schema(PLAIN.model_copy(update={"name": "d"}), RICH.vector("words"), RICH.vector("tokens")))
    bad = np.array([0, 1, 2], dtype=np.float32)
    bad[1] = np.inf
    vectors = {
        "d": Dense(np.array([[1, 1], [np.nan, 1], [1, 1]], dtype=np.float32)),
        "words": Sparse(np.array([0, 1, 2, 3]), np.array([1, 1, 1], np.uint32), np.array([1, 1, 1], np.float32)),
        "tokens": Multi(np.array([0, 1, 2, 3]), np.array([[1, 1], [1, 1], [1, -np.inf]], np.float32)),
    }
    with pytest.raises(InvalidRecord) as caught:
        database.upsert(Batch(IdColumn.of(IdKind.U64, [5, 6, 7]), None, vectors, [{}] * 3))
    assert set(caught.value.ids) == {"6", "7"}
    vectors = {"words": Sparse(np.array([0, 1, 3]), np.array([1, 1, 2], np.uint32), bad)}
    with pytest.raises(InvalidRecord) as caught:
        database.upsert(Batch(IdColumn.of(IdKind.U64, [5, 6]), None, vectors, [{}] * 2))
    assert caught.value.ids == ("6",)
    assert database.count() == 0


HALF = "\ud800"  # of a surrogate pair


def test_payloads_that_cannot_be_kept_are_refused_by_name(on_server: Opener, transport: str) -> None:
    database = on_server()
    database.create(schema())
    largest = 2**64 - 1 if transport == "rest" else 2**63 - 1
    good: list[dict[str, Any]] = [{"a": "é🎉", "é": [largest, -(2**63), 1.5, True, None]}, {}]
    bad: list[dict[str, Any]] = [
        {"a": HALF},
        {"deep": [{HALF: 1}]},
        {"a": float("nan")},
        {"a": [[-float("inf")]]},
        {"a": largest + 1},
        {"a": {"b": -(2**63) - 1}},
    ]
    batch = plain(range(10, 18))
    with pytest.raises(InvalidRecord, match="id '12'") as caught:
        database.upsert(Batch(batch.ids, None, batch.vectors, [*good, *bad]))
    assert caught.value.ids == ("12", "13", "14", "15", "16", "17")
    assert database.count() == 0
    database.upsert(Batch(batch.ids, None, batch.vectors, good * 4))
    assert [row for b in everything(database) for row in b.payloads] == good * 4


########################################################################
# Keys, addresses and connections
########################################################################


def test_a_key_works_over_plain_http_and_is_in_no_message(transport: str) -> None:
    secret = "hush-hush"
    with QdrantStandIn(Settings(api_key=secret)) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_target(endpoint(server, transport, "things")) as database:
            database.ping()
            database.create(schema())
            database.upsert(plain([1]))
        for key in (None, SecretStr("wrong-key")):
            there = endpoint(server, transport, "things")
            wrong = Endpoint(type="qdrant", url=there.url, collection="things", api_key=key, options=there.options)
            for call in (Database.ping, Database.probe, Database.describe, Database.count):
                with open_target(wrong) as database, pytest.raises(AuthenticationFailed, match="'things'") as caught:
                    getattr(database, call.__name__)()
                assert "wrong-key" not in str(caught.value)


def test_a_key_that_may_only_read_is_enough_for_a_source(transport: str) -> None:
    with QdrantStandIn(Settings(api_key="all", read_only_api_key="look")) as server:
        with open_target(endpoint(server, transport, "things")) as database:
            database.create(schema())
            database.upsert(plain(range(5)))
        there = endpoint(server, transport, "things")
        looking = Endpoint(
            type="qdrant", url=there.url, collection="things", api_key=SecretStr("look"), options=there.options
        )
        with open_source(looking) as source:
            source.ping()
            source.probe()
            assert ids_of(everything(source)) == list(range(5))
        with open_target(looking) as target, pytest.raises(AuthenticationFailed):
            target.upsert(plain([9]))


def test_nobody_listening_is_unavailable(transport: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        options = QdrantOptions(grpc_url=url if transport == "grpc" else None, timeout_s=5)
        there = Endpoint(type="qdrant", url=url, collection="things", options=options)
        with open_target(there) as database, pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
            database.ping()


def test_records_go_over_rest_where_grpc_is_closed_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with QdrantStandIn() as server:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            closed = f"http://127.0.0.1:{unused.getsockname()[1]}"
        where = endpoint(QdrantServer(url=server.url, grpc_url=closed), "grpc", "things")
        for number in (1, 2):
            with open_target(where) as database:
                if number == 1:
                    database.create(schema())
                database.upsert(plain([number, number + 10]))
        with open_target(where) as database:
            assert ids_of(everything(database)) == [1, 2, 11, 12]
        assert {"Upsert", "Scroll"} <= server.calls().keys()
    told = [record.getMessage() for record in caplog.records if "grpc_url" in record.getMessage()]
    assert len(told) == 1
    assert closed in told[0]


def test_a_server_that_never_answers_is_given_up(transport: str) -> None:
    """It takes connections and is silent; `timeout_s` bounds the wait."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        options = QdrantOptions(grpc_url=url if transport == "grpc" else None, timeout_s=1)
        there = Endpoint(type="qdrant", url=url, collection="things", options=options)
        with open_target(there) as database, pytest.raises(Unavailable):
            database.ping()


def test_a_server_that_goes_away_and_comes_back_is_used_again(faulty: Database, qdrant_stand_in: QdrantStandIn) -> None:
    faulty.upsert(plain(range(10)))
    scan = faulty.scan(Split(kind=IdKind.U64), batch_records=5)
    next(scan)
    qdrant_stand_in.stop()
    with pytest.raises(Unavailable):
        next(scan)
    with pytest.raises(Unavailable):
        faulty.upsert(plain([10]))
    qdrant_stand_in.start()
    retry = Retry(max_retries=10)
    retry.call(partial(faulty.upsert, plain([10])))
    assert ids_of(retry.call(lambda: list(faulty.scan(Split(kind=IdKind.U64), "4")))) == [5, 6, 7, 8, 9, 10]


def test_a_reply_that_is_lost_after_the_write_is_made_good_by_writing_again(
    qdrant_server: QdrantServer, on_server: Opener
) -> None:
    """The server has done it, nobody knows: the same records again are the same collection."""
    database = on_server()
    database.create(schema())
    over_rest = database.endpoint.options.grpc_url is None
    url = qdrant_server.url if over_rest else qdrant_server.grpc_url
    assert url is not None
    with TcpProxy(int(url.rsplit(":", 1)[1])) as proxy:
        detour = f"http://127.0.0.1:{proxy.port}"
        options = QdrantOptions(grpc_url=None if over_rest else detour, timeout_s=5)
        there = Endpoint(
            type="qdrant",
            url=detour if over_rest else qdrant_server.url.replace("localhost", "127.0.0.1"),
            collection="server_things",
            api_key=database.endpoint.api_key,
            options=options,
        )
        with open_target(there) as detoured:
            detoured.upsert(plain([1]))
            proxy.swallow_replies()
            with pytest.raises(Unavailable):
                detoured.upsert(plain([2, 3]))
            assert proxy.swallowed
            assert database.count() == 3
            Retry(max_retries=10).call(partial(detoured.upsert, plain([2, 3])))
    assert ids_of(list(database.scan(Split(kind=IdKind.U64)))) == [1, 2, 3]


def test_an_address_may_have_a_path() -> None:
    """A reverse proxy that serves Qdrant below a path; played by a server that answers only there."""
    paths: list[str] = []

    class Below(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            body = b'{"result": {"collections": []}, "status": "ok", "time": 0}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Below) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/vectors/"
        with open_target(Endpoint(type="qdrant", url=url, collection="things")) as database:
            database.ping()
        thread.join()
    assert paths == ["/vectors/collections"]


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that only those trust who are given it, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    return certificate, key


def test_tls_needs_a_certificate_that_is_trusted(transport: str, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    with QdrantStandIn(Settings(certificate=str(certificate), key=str(key))) as server:
        with open_target(endpoint(server, transport, "things", ca_file=certificate)) as database:
            database.create(schema())
            database.upsert(plain([1]))
            assert database.count() == 1
        with open_target(endpoint(server, transport, "things", timeout_s=3)) as database, pytest.raises(Unavailable):
            database.ping()
    broken = tmp_path / "broken.pem"
    for problem in (tmp_path / "none.pem", broken):
        with (
            open_target(endpoint(server, "rest", "things", ca_file=problem)) as database,
            pytest.raises(ConfigurationError, match="ca_file"),
        ):
            database.ping()
        broken.write_text("no certificate")


def test_both_ports_are_encrypted_or_none() -> None:
    options = QdrantOptions(grpc_url="http://here:6334")
    there = Endpoint(type="qdrant", url="https://here", collection="things", options=options)
    with open_target(there) as database, pytest.raises(ConfigurationError, match="encrypts"):
        database.ping()


def test_something_else_at_the_address_is_said() -> None:
    with QdrantStandIn() as server:
        url = f"{server.url}/collections/none"
        there = Endpoint(type="qdrant", url=url, collection="things")
        with open_target(there) as database, pytest.raises(DatabaseError):
            database.ping()
