"""A fixed local port in front of a server, which can be made to misbehave as networks do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Self, TypeVar

HOST = "127.0.0.1"
T = TypeVar("T")

_HTTP2 = b"PRI * HTTP/2.0"
_HTTP2_FRAME_HEAD = 9
_HTTP2_REPLY_FRAMES = (0, 1)  # DATA and HEADERS; the others are the connection's own (RFC 9113, section 6)
_PIECE = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


class TcpProxy:
    """Forwards connections to a port of this machine. Safe to use from any thread.

    Args:
        target: port to forward to; until one is given, connections are refused.
    """

    def __init__(self, target: int | None = None) -> None:
        self._target = target
        self._swallow = 0
        self._connections: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._thread.start()
        self.port = 0
        self.accept()

    def forward_to(self, port: int) -> None:
        """Send new connections there; those that are open stay where they are."""
        self._target = port

    def accept(self) -> None:
        """Listen; the opposite of `refuse`."""
        self._run(self._listen())

    def refuse(self) -> None:
        """Refuse new connections, as a machine does on which no server runs."""
        self._run(self._stop_listening())

    def cut(self) -> None:
        """Reset every open connection."""
        self._run(self._reset_all())

    def swallow_replies(self, count: int = 1) -> None:
        """Let requests through, but reset the connection where each of the next `count` replies begins.

        The server has done what it was asked to; the client cannot know. Replies are told from housekeeping in
        HTTP/2 (gRPC); of any other protocol all that the server sends is a reply.
        """
        self._swallow = count

    @property
    def swallowed(self) -> bool:
        """Whether all the replies have been swallowed that should be."""
        return self._swallow == 0

    def close(self) -> None:
        """Stop for good; may be called twice."""
        if self._loop.is_closed():
            return
        self.refuse()
        self._run(self._end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _run(self, coroutine: object) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, HOST, self.port)
            self.port = self._listener.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _reset_all(self) -> None:
        these = set(self._connections)  # and none that clients open meanwhile
        for writer in these:
            _reset(writer)
        while these & self._connections:
            await asyncio.sleep(0.001)

    async def _end_all(self) -> None:
        """Reset connections as well that were accepted right before and that nobody serves yet."""
        while asyncio.all_tasks() - {asyncio.current_task()}:
            await self._reset_all()
            await asyncio.sleep(0.001)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        ends = [to_client]
        self._connections.add(to_client)
        try:
            if self._target is None:
                return
            server, to_server = await asyncio.open_connection(HOST, self._target)
            ends.append(to_server)
            self._connections.add(to_server)
            first = await client.read(_PIECE)
            to_server.write(first)
            replies = self._frames if first.startswith(_HTTP2) else self._bytes
            await _until_one_ends(self._bytes(client, to_server), replies(server, to_client, self._swallows))
        except OSError:  # either end went away, which is what ends a connection
            pass
        finally:
            for end in ends:
                _reset(end)
                self._connections.discard(end)

    def _swallows(self) -> bool:
        self._swallow -= (wanted := self._swallow > 0)
        return wanted

    async def _bytes(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, stop: Callable[[], bool] = lambda: False
    ) -> None:
        while (data := await source.read(_PIECE)) and not stop():
            sink.write(data)
            await sink.drain()

    async def _frames(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, stop: Callable[[], bool]) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = await source.readexactly(_HTTP2_FRAME_HEAD)
                body = await source.readexactly(int.from_bytes(head[:3], "big"))
                if head[3] in _HTTP2_REPLY_FRAMES and stop():
                    return
                sink.write(head + body)
                await sink.drain()


async def _until_one_ends(*pumps: object) -> None:
    tasks = [asyncio.ensure_future(pump) for pump in pumps]  # type: ignore[call-overload]
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, OSError):
            raise result
    del done


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
