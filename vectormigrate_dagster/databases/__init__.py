"""One package per database behind one contract. This is the only place that knows their names.

Importing this package is quick: the contract, with Arrow and numpy, is imported when it is first asked for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vectormigrate_dagster.databases.endpoint import OPTIONS, Endpoint, Options
from vectormigrate_dagster.errors import ConfigurationError

if TYPE_CHECKING:
    from vectormigrate_dagster.databases.base import Database, Fetched, Hits, Queries, Refusal, Sleep, Where
    from vectormigrate_dagster.databases.bulk_files import BulkFiles
    from vectormigrate_dagster.databases.source import Source
    from vectormigrate_dagster.model import Capabilities, CollectionSchema

__all__ = [
    "TYPES",
    "Database",
    "Endpoint",
    "Fetched",
    "Hits",
    "Options",
    "Queries",
    "Refusal",
    "Sleep",
    "Source",
    "Where",
    "bulk_files_of",
    "capabilities_of",
    "keep_open",
    "open_source",
    "open_target",
    "options_of",
]

_CLASSES = {"milvus": "Milvus", "pinecone": "Pinecone", "qdrant": "Qdrant", "weaviate": "Weaviate"}

_FILES = {"milvus": "MilvusFiles", "pinecone": "PineconeFiles"}
"""Of the databases with a bulk import of files."""

TYPES: tuple[str, ...] = tuple(sorted(_CLASSES))
"""The values that `type` may have in a migration file."""


def open_target(endpoint: Endpoint, *, sleep: Sleep = time.sleep) -> Database:
    """Open a collection for reading and writing. Connects late: the first call may raise `Unavailable`.

    Args:
        endpoint: where the collection is.
        sleep: how the database waits; see `Database`.
    """
    database = _class_of(endpoint.type)(endpoint)
    database.sleep = sleep
    return database


def open_source(endpoint: Endpoint, *, sleep: Sleep = time.sleep) -> Source:
    """Open a collection read-only; see `open_target`."""
    from vectormigrate_dagster.databases.source import Source

    return Source(open_target(endpoint, sleep=sleep))


@contextmanager
def keep_open(endpoint: Endpoint, *, scopes: Sequence[str] | None = None, sleep: Sleep = time.sleep) -> Iterator[None]:
    """Keep a collection at hand across many short-lived objects: a folder open, a server's collection in its memory.

    A folder is opened by whoever needs it first, and stays locked for other processes until the block ends.

    Args:
        endpoint: where the collection is.
        scopes: those that will be read; None is all of them.
        sleep: how the database waits; see `Database`.
    """
    from vectormigrate_dagster.databases.embedded import hold

    if endpoint.path is None:
        with open_target(endpoint, sleep=sleep) as database, database.hold(scopes):
            yield
        return
    with hold(endpoint.path):
        yield


def capabilities_of(type: str, *, embedded: bool = False) -> Capabilities:
    """What a database can do, without connecting to one."""
    cls = _class_of(type)
    return cls.embedded_capabilities if embedded else cls.capabilities


def bulk_files_of(endpoint: Endpoint, schema: CollectionSchema) -> BulkFiles:
    """How a database's own bulk import wants the files of a collection; connects to nothing.

    Raises:
        ConfigurationError: it has no such import (`Capabilities.imports_files`).
        SchemaMismatch: it has none into such a collection.
    """
    can = capabilities_of(endpoint.type, embedded=endpoint.embedded)
    if not can.imports_files:
        raise ConfigurationError(
            f"{can.title} has no bulk import of files; move the records with 'vectormigrate migrate'"
        )
    module = import_module(f"vectormigrate_dagster.databases.{endpoint.type}.bulk_files")
    return getattr(module, _FILES[endpoint.type])(endpoint, schema)  # type: ignore[no-any-return]  # a test looks at each


def options_of(type: str) -> type[Options]:
    """The model of a database's `options:` in a migration file."""
    return OPTIONS[_known(type)]


def _class_of(type: str) -> type[Database]:
    module = import_module(f"vectormigrate_dagster.databases.{_known(type)}.database")
    return getattr(module, _CLASSES[type])  # type: ignore[no-any-return]  # the test of the contract looks at each


def _known(type: str) -> str:
    if type not in _CLASSES:
        raise ConfigurationError(f"'{type}' is not a database this version moves; use one of {', '.join(TYPES)}")
    return type


def __getattr__(name: str) -> Any:
    """Import a part of the contract when it is first asked for."""
    if name in __all__:
        module = "source" if name == "Source" else "base"
        return getattr(import_module(f"vectormigrate_dagster.databases.{module}"), name)
    raise AttributeError(name)
