"""Contract: the gRPC servers of the stand-ins let clients send keepalive pings, as often as they like."""

from __future__ import annotations

import socket
import struct

import pytest

from vectormigrate_dagster_tests.emulators.qdrant import QdrantStandIn
from vectormigrate_dagster_tests.emulators.weaviate import WeaviateStandIn

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY = 4, 6, 7
ACK = 1


def frame(type: int, content: bytes = b"") -> bytes:
    """A frame of the connection itself (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(content))[1:] + bytes([type, 0]) + bytes(4) + content


@pytest.mark.parametrize("stand_in", [QdrantStandIn, WeaviateStandIn])
def test_an_idle_client_may_ping(stand_in: type[QdrantStandIn] | type[WeaviateStandIn]) -> None:
    with (
        stand_in() as server,
        socket.create_connection(("127.0.0.1", server.grpc_port), timeout=30) as connection,
        connection.makefile("rb") as stream,
    ):
        connection.sendall(PREFACE + frame(SETTINGS))
        for number in range(10):
            sent = struct.pack(">Q", number)
            connection.sendall(frame(PING, sent))
            while True:
                head = stream.read(9)
                assert len(head) == 9, "the server has ended the connection"
                content = stream.read(int.from_bytes(head[:3], "big"))
                assert head[3] != GOAWAY, content
                if (head[3], head[4]) == (PING, ACK):
                    assert content == sent
                    break
