"""Lets the official client look at the kinds of its answers before two threads can do so at the same time.

The client decodes answers with msgspec, which finds out about a class when it first meets it. It keeps what it has
found by then while it goes on, and another thread that meets the same class meanwhile uses it half done: the process
dies of SIGSEGV (seen with msgspec 0.22 and Python 3.11).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress

_preparing = threading.Lock()
_prepared: set[type] = set()


def prepare_answers() -> None:
    """Have msgspec find out about every class of the client that was imported by now; takes 30 ms, and nothing again.

    To be called after each import of a part of the client, before any thread calls that part.
    """
    import msgspec

    with _preparing:
        for kind in set(_kinds(msgspec.Struct)) - _prepared:
            with suppress(TypeError):  # some are requests, and cannot be decoded
                msgspec.json.Decoder(kind)
            _prepared.add(kind)


def _kinds(base: type) -> Iterator[type]:
    subclasses: list[type] = base.__subclasses__()
    for kind in subclasses:
        if kind.__module__.startswith("pinecone."):
            yield kind
        yield from _kinds(kind)
