"""A Milvus server behind a network that breaks, and one that asks for TLS and a token and limits its replies."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from vectormigrate_dagster.databases import Database, Endpoint, open_source, open_target
from vectormigrate_dagster.databases.endpoint import MilvusOptions
from vectormigrate_dagster.errors import AuthenticationFailed, InvalidRecord, NotFound, SchemaMismatch, Unavailable
from vectormigrate_dagster.model import IdColumn, IdKind
from vectormigrate_dagster_tests.databases.milvus_support import PLAIN, WHOLE, batch, client_of, ids_of, with_vector
from vectormigrate_dagster_tests.servers.milvus import QUICK, Address, MilvusServer

########################################################################
# A network and a server that fail
########################################################################


def on_network(server: MilvusServer, **options: Any) -> Database:
    options = {"timeout_s": 20.0, "connect_timeout_s": 5.0} | options
    return open_target(Endpoint(type="milvus", url=server.url, collection="net", options=MilvusOptions(**options)))


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A server that tests may kill, with collection "net" of 100 records."""
    with MilvusServer.start(tmp_path_factory.mktemp("mortal"), QUICK) as server:
        with on_network(server) as database:
            database.create(PLAIN)
            database.upsert(batch(list(range(100))))
        yield server


def patiently(call: Callable[[], Any]) -> Any:
    """Call until the server answers: what `transfer.throttle` does, for a bounded time."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return call()
        except Unavailable:
            if time.monotonic() > deadline:
                raise


def test_a_lost_acknowledgement_is_an_error_and_the_repetition_makes_no_second_row(mortal: MilvusServer) -> None:
    with on_network(mortal) as database:
        assert ids_of(database) == list(range(100))  # so that the next call is the write
        mortal.proxy.swallow_replies()
        with pytest.raises(Unavailable, match="does not answer"):
            database.upsert(batch([1000, 1001]))
        assert mortal.proxy.swallowed
        assert patiently(lambda: database.upsert(batch([1000, 1001]))) == []
        assert database.count() == 102
        database.delete(IdColumn.of(IdKind.I64, [1000, 1001]))
        assert database.count() == 100


def test_h28_every_call_survives_a_cut_connection(mortal: MilvusServer) -> None:
    with on_network(mortal) as database:
        calls: list[Callable[[], Any]] = [
            database.ping, database.describe, database.count, lambda: ids_of(database),
            lambda: database.fetch(IdColumn.of(IdKind.I64, [1])), lambda: database.upsert(batch([1])),
        ]  # fmt: skip
        for call in calls:
            call()
            mortal.proxy.cut()
            try:
                call()
            except Unavailable:  # what `transfer.throttle` repeats
                call()


def test_h28_a_server_that_is_killed_and_comes_back_is_found_again(mortal: MilvusServer) -> None:
    with on_network(mortal) as database:
        pages = database.scan(WHOLE, batch_records=30)
        last = next(pages).ids[29]
        mortal.kill()
        with pytest.raises(Unavailable, match=mortal.url):
            next(pages)
        with pytest.raises(Unavailable, match=mortal.url):
            database.upsert(batch([5000]))
        with on_network(mortal) as another, pytest.raises(Unavailable, match=mortal.url):
            another.count()
        mortal.restart()
        patiently(lambda: database.fetch(IdColumn.of(IdKind.I64, [1])))
        assert [v for part in database.scan(WHOLE, after=str(last)) for v in part.ids.to_pylist()] == list(
            range(30, 100)
        )
        assert database.upsert(batch([5000])) == []
        assert database.count() == 101


def test_a_machine_that_never_answers_is_given_up(milvus_server: Address) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = MilvusOptions(connect_timeout_s=0.5)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        source = open_source(Endpoint(type="milvus", url=url, collection="net", options=options))
        with source, pytest.raises(Unavailable, match="in time"):
            source.ping()


def test_a_database_that_does_not_exist_is_named(milvus_server: Address) -> None:
    source = open_source(replace(milvus_server, database="nowhere").endpoint("any"))
    with source, pytest.raises(NotFound, match=r"options\.database"):
        source.describe()


def test_a_collection_that_is_dropped_or_made_anew_during_a_load_ends_it(milvus_server: Address) -> None:
    with closing(client_of(milvus_server)) as client, open_target(milvus_server.endpoint("gone")) as database:
        database.create(PLAIN)
        assert database.upsert(batch([1])) == []
        client.drop_collection("gone")
        with pytest.raises(NotFound, match="'gone'"):
            database.upsert(batch([2]))
        with open_target(milvus_server.endpoint("gone")) as other:
            other.create(with_vector(dim=8))
        with pytest.raises((InvalidRecord, SchemaMismatch), match="dim"):
            database.upsert(batch([2]))
        client.drop_collection("gone")


########################################################################
# TLS, token and limits: one server with all of them
########################################################################


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server that asks for TLS and a token and sends at most 256 KB at once; its address and its certificate."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("guarded")
    certificate, key = folder / "server.pem", folder / "server.key"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    settings = QUICK | {
        "common.security.authorizationEnabled": "true",
        "common.security.tlsMode": 1,
        "tls.serverPemPath": certificate,
        "tls.serverKeyPath": key,
        "tls.caPemPath": certificate,
        "proxy.grpc.serverMaxSendSize": 262_144,
    }
    with ExitStack() as stack:
        server = stack.enter_context(MilvusServer.start(folder / "data", settings))
        yield f"https://localhost:{server.proxy.port}", certificate


def guarded_endpoint(guarded: tuple[str, Path], token: str | None = "root:Milvus", **options: Any) -> Endpoint:
    url, certificate = guarded
    key = None if token is None else SecretStr(token)
    made = MilvusOptions(**({"ca_file": certificate, "connect_timeout_s": 5} | options))
    return Endpoint(type="milvus", url=url, api_key=key, collection="safe", options=made)


def test_h08_replies_that_are_too_large_are_asked_for_in_smaller_pages_through_tls(guarded: tuple[str, Path]) -> None:
    with open_target(guarded_endpoint(guarded)) as database:
        database.create(PLAIN)
        database.upsert(batch(list(range(200)), text="x" * 5000))
        assert ids_of(database) == list(range(200))
        asked = IdColumn.of(IdKind.I64, [*range(150), 999])
        fetched = database.fetch(asked)
        assert (len(fetched.batch), fetched.missing.to_pylist()) == (150, [999])


@pytest.mark.parametrize("token", ["root:wrong", "nobody:Milvus", None])
def test_a_wrong_token_is_not_accepted(guarded: tuple[str, Path], token: str | None) -> None:
    source = open_source(guarded_endpoint(guarded, token))
    with source, pytest.raises(AuthenticationFailed, match="does not accept the key") as failed:
        source.describe()
    assert "wrong" not in str(failed.value)


def test_a_certificate_that_nobody_vouches_for_is_not_accepted(guarded: tuple[str, Path]) -> None:
    with open_source(guarded_endpoint(guarded, ca_file=None)) as source, pytest.raises(Unavailable):
        source.ping()
