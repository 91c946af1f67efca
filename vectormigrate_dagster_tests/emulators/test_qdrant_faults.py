"""What only the stand-in does: faults on order, other versions and settings, its own life and death."""

from __future__ import annotations

import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from vectormigrate_dagster_tests.emulators.conftest import NAME, client_of
from vectormigrate_dagster_tests.emulators.qdrant import QdrantStandIn, Settings
from vectormigrate_dagster_tests.emulators.qdrant.errors import Refused
from vectormigrate_dagster_tests.emulators.qdrant.limits import TokenBucket
from vectormigrate_dagster_tests.emulators.qdrant_clients import ids, point, refused

Opener = Callable[..., tuple[QdrantStandIn, QdrantClient]]
NO_ANSWER = (ResponseHandlingException, grpc.RpcError)


@pytest.fixture
def started(face: str) -> Iterator[Opener]:
    """Starts stand-ins that hold an empty collection, and gives the client of each."""

    def start(child: bool = False, client: dict[str, object] | None = None, **settings: object):
        server = stack.enter_context(QdrantStandIn(Settings(**settings), child=child))
        made = client_of(server, face, **(client or {}))
        stack.callback(made.close)
        made.create_collection(NAME, vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT))
        return server, made

    with ExitStack() as stack:
        yield start


def eventually(what: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not what() and time.monotonic() < deadline:
        time.sleep(0.005)
    return what()


########################################################################
# Faults
########################################################################


def test_h28_the_nth_call_is_throttled_with_and_without_a_time(started: Opener) -> None:
    server, client = started()
    server.fault("throttle", "Scroll", nth=2, retry_after=1.2)
    server.fault("throttle", "Count")
    client.scroll(NAME)
    with pytest.raises(ResourceExhaustedResponse) as caught:
        client.scroll(NAME)
    assert caught.value.retry_after_s == 2
    client.scroll(NAME)
    with refused(429, "RESOURCE_EXHAUSTED", "rate limit exceeded"):
        client.count(NAME)
    assert server.calls()["Scroll"] == 3


def test_a_server_that_is_unavailable_or_full(started: Opener) -> None:
    server, client = started()
    server.fault("unavailable", times=2)
    for _ in range(2):
        with refused(503, "UNAVAILABLE", "Shard temporarily unavailable"):
            client.count(NAME)
    server.fault("disk_full", "Upsert", times=None)
    for _ in range(3):
        with refused(500, "INTERNAL", "Service internal error: No space left on device"):
            client.upsert(NAME, [point(1)], wait=True)
    server.clear_faults()
    client.upsert(NAME, [point(1)], wait=True)
    assert client.count(NAME).count == 1


@pytest.mark.parametrize(("what", "kept"), [("reset_before", 0), ("reset_after", 1)])
def test_a_connection_that_ends_before_or_after_the_work(started: Opener, what: str, kept: int) -> None:
    server, client = started()
    server.fault(what, "Upsert")
    with pytest.raises(NO_ANSWER) as caught:
        client.upsert(NAME, [point(1)], wait=True)
    assert not isinstance(caught.value, grpc.RpcError) or caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert client.count(NAME).count == kept


def test_a_page_in_the_wrong_order(started: Opener) -> None:
    server, client = started()
    client.upsert(NAME, [point(i) for i in range(4)], wait=True)
    server.fault("wrong_order", "Scroll")
    assert ids(client.scroll(NAME)[0]) == [3, 1, 2, 0]
    assert ids(client.scroll(NAME)[0]) == [0, 1, 2, 3]


def test_a_delay_exceeds_the_clients_patience(started: Opener) -> None:
    server, client = started(client={"timeout": 1})
    server.fault("delay", "Count", seconds=1.5)
    with pytest.raises(NO_ANSWER):
        client.count(NAME)


def test_h19_an_acknowledged_change_is_applied_later_or_lost(started: Opener) -> None:
    server, client = started()
    result = client.upsert(NAME, [point(1)], wait=False)
    assert result.status is models.UpdateStatus.ACKNOWLEDGED
    assert eventually(lambda: client.count(NAME).count == 1)
    server.fault("fail_when_applied", "Upsert")
    assert client.upsert(NAME, [point(2)], wait=False).status is models.UpdateStatus.ACKNOWLEDGED
    client.upsert(NAME, [point(3)], wait=False)
    assert eventually(lambda: client.count(NAME).count == 2 and len(server.lost()) == 1)
    assert ids(client.scroll(NAME)[0]) == [1, 3]


def test_a_killed_server_forgets_what_it_has_only_acknowledged(started: Opener) -> None:
    server, client = started(apply_after=60.0)
    client.upsert(NAME, [point(1)], wait=True)
    client.upsert(NAME, [point(2)], wait=False)
    server.kill()
    server.start()
    assert eventually(lambda: answers(client))
    assert ids(client.scroll(NAME)[0]) == [1]


def answers(client: QdrantClient) -> bool:
    try:
        client.get_collections()
    except NO_ANSWER:
        return False
    return True


########################################################################
# Versions and settings
########################################################################


def test_an_older_server_has_no_slices(started: Opener) -> None:
    _, client = started(version="1.18.2")
    one = models.Filter(must=[models.SliceCondition(slice=models.Slice(total=2, index=0))])
    assert client.info().version == "1.18.2"
    with refused(400, "INVALID_ARGUMENT", "did not match any variant"):
        client.scroll(NAME, scroll_filter=one)


def test_vectors_have_their_old_form_before_116() -> None:
    with QdrantStandIn(Settings(version="1.15.0")) as server:
        client = client_of(server, "grpc")
        client.create_collection(NAME, vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT))
        client.upsert(NAME, [point(1)], wait=True)
        assert client.retrieve(NAME, [1], with_vectors=True)[0].vector == [1.0, 2.0, 3.0, 4.0]
        client.close()


def test_a_server_of_its_own_has_no_shard_keys(started: Opener) -> None:
    _, client = started(distributed=False)
    with refused(405, "UNIMPLEMENTED", "Qdrant is running in standalone mode"):
        client.create_shard_key(NAME, "cats")


def test_keys(started: Opener, face: str) -> None:
    server, client = started(api_key="secret", read_only_api_key="look")
    assert client.count(NAME).count == 0
    reader, stranger, nobody = (client_of(server, face, api_key=key) for key in ("look", "wrong", None))
    assert reader.count(NAME).count == 0
    with refused(403, "PERMISSION_DENIED", "Global manage access is required"):
        reader.upsert(NAME, [point(1)], wait=True)
    with refused(401, "UNAUTHENTICATED", "Invalid API key or JWT"):
        stranger.count(NAME)
    with refused(401, "UNAUTHENTICATED", "Must provide an API key or an Authorization bearer token"):
        nobody.count(NAME)
    assert nobody.info().version == "1.19.0"
    for each in (reader, stranger, nobody):
        each.close()


def test_only_rest_has_a_limit_of_size(started: Opener, face: str) -> None:
    _, client = started(max_request_bytes=10_000)
    big = [point(i, text="x" * 1000) for i in range(20)]
    if face == "grpc":
        client.upsert(NAME, big, wait=True)
        return
    with pytest.raises(UnexpectedResponse, match=r"larger than allowed \(limit: 10000 bytes\)") as caught:
        client.upsert(NAME, big, wait=True)
    assert caught.value.status_code == 400
    assert client.count(NAME).count == 0


def test_tls(started: Opener, face: str, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    trust: dict[str, object] = {"verify": ssl.create_default_context(cafile=certificate)}
    if face == "grpc":
        trust["grpc_options"] = {"root_certificates": certificate.read_bytes()}
    server, client = started(client=trust, certificate=str(certificate), key=str(key))
    assert server.url.startswith("https://")
    client.upsert(NAME, [point(1)], wait=True)
    assert client.count(NAME).count == 1


def test_a_bucket_refills_by_the_minute() -> None:
    now = [0.0]
    bucket = TokenBucket(60, clock=lambda: now[0])
    bucket.take("Read", 60)
    with pytest.raises(Refused, match=r"requires 5 tokens but only 0.0 were available. Retry after 5s") as caught:
        bucket.take("Read", 5)
    assert caught.value.retry_after == 5
    now[0] = 4.5
    with pytest.raises(Refused, match=r"only 4.5 were available. Retry after 1s"):
        bucket.take("Read", 5)
    now[0] = 5.0
    bucket.take("Read", 5)
    with pytest.raises(Refused, match="larger than rate limiter capacity") as caught:
        bucket.take("Write", 61)
    assert caught.value.retry_after is None


########################################################################
# Life and death
########################################################################


def test_a_restart_keeps_data_and_address(started: Opener) -> None:
    server, client = started()
    client.upsert(NAME, [point(1)], wait=True)
    address = server.url, server.grpc_url
    server.stop()
    with pytest.raises(NO_ANSWER):
        client.count(NAME)
    server.start()
    assert (server.url, server.grpc_url) == address
    assert eventually(lambda: answers(client))
    assert client.count(NAME).count == 1


def test_a_child_takes_orders_and_dies_at_once(started: Opener) -> None:
    server, client = started(child=True)
    client.upsert(NAME, [point(1)], wait=True)
    server.fault("reset_after", "Upsert")
    with pytest.raises(NO_ANSWER):
        client.upsert(NAME, [point(2)], wait=True)
    assert client.count(NAME).count == 2
    assert server.calls()["Upsert"] == 2
    address = server.url
    server.kill()
    with pytest.raises(NO_ANSWER):
        client.count(NAME)
    server.start()
    assert server.url == address
    assert eventually(lambda: answers(client))
    assert client.get_collections().collections == []
