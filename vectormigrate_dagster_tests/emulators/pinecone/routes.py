"""Every path that is served, with the name of its method."""

from __future__ import annotations

import re
from collections.abc import Callable

from vectormigrate_dagster_tests.emulators.pinecone import documents, namespaces, vectors
from vectormigrate_dagster_tests.emulators.pinecone.request import Answer, Request

Work = Callable[[Request], Answer]


def _list_indexes(r: Request) -> Answer:
    return Answer({"indexes": [index.described(f"{r.host}/{index.name}") for index in r.engine.all()]})


def _create_index(r: Request) -> Answer:
    index = r.engine.create(r.body)
    return Answer(index.described(f"{r.host}/{index.name}"), status=201)


def _describe_index(r: Request) -> Answer:
    index = r.engine.index(r.path["name"])
    answer = Answer(index.described(f"{r.host}/{index.name}"))
    index.tick()
    return answer


def _configure_index(r: Request) -> Answer:
    index = r.engine.configure(r.path["name"], r.body)
    return Answer(index.described(f"{r.host}/{index.name}"))


def _delete_index(r: Request) -> Answer:
    r.engine.delete(r.path["name"])
    return Answer(None, status=202)


CONTROL: list[tuple[str, str, str, Work]] = [
    ("GET", "/indexes", "ListIndexes", _list_indexes),
    ("POST", "/indexes", "CreateIndex", _create_index),
    ("GET", "/indexes/{name}", "DescribeIndex", _describe_index),
    ("PATCH", "/indexes/{name}", "ConfigureIndex", _configure_index),
    ("DELETE", "/indexes/{name}", "DeleteIndex", _delete_index),
]

DATA: list[tuple[str, str, str, Work]] = [
    ("POST", "/vectors/upsert", "Upsert", vectors.upsert),
    ("GET", "/vectors/fetch", "Fetch", vectors.fetch),
    ("POST", "/vectors/fetch_by_metadata", "FetchByMetadata", vectors.fetch_by_metadata),
    ("GET", "/vectors/list", "List", vectors.list_ids),
    ("POST", "/vectors/delete", "Delete", vectors.delete),
    ("POST", "/vectors/update", "Update", vectors.update),
    ("POST", "/query", "Query", vectors.query),
    ("POST", "/describe_index_stats", "DescribeIndexStats", vectors.stats),
    ("GET", "/namespaces", "ListNamespaces", namespaces.list_all),
    ("POST", "/namespaces", "CreateNamespace", namespaces.create),
    ("GET", "/namespaces/{name}", "DescribeNamespace", namespaces.describe),
    ("DELETE", "/namespaces/{name}", "DeleteNamespace", namespaces.delete),
    ("POST", "/namespaces/{name}/documents/upsert", "UpsertDocuments", documents.upsert),
    ("POST", "/namespaces/{name}/documents/fetch", "FetchDocuments", documents.fetch),
    ("POST", "/namespaces/{name}/documents/list", "ListDocuments", documents.list_ids),
    ("POST", "/namespaces/{name}/documents/search", "SearchDocuments", documents.search),
    ("POST", "/namespaces/{name}/documents/update", "UpdateDocuments", documents.update),
    ("POST", "/namespaces/{name}/documents/delete", "DeleteDocuments", documents.delete),
]

WRITES = frozenset(
    {
        *("CreateIndex", "ConfigureIndex", "DeleteIndex", "Upsert", "Delete", "Update"),
        *("CreateNamespace", "DeleteNamespace", "UpsertDocuments", "UpdateDocuments", "DeleteDocuments"),
    }
)
"""Methods that change something."""


def _compiled(routes: list[tuple[str, str, str, Work]]) -> list[tuple[str, re.Pattern[str], str, str, Work]]:
    return [
        (verb, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)), f"{verb} {path}", name, work)
        for verb, path, name, work in routes
    ]


_CONTROL, _DATA = _compiled(CONTROL), _compiled(DATA)


def found(verb: str, path: str, *, data: bool) -> tuple[dict[str, str], str, str, Work] | None:
    """What serves a path: its variables, still quoted, its template, its method and the work; None if nothing does."""
    for of, pattern, template, name, work in _DATA if data else _CONTROL:
        match = pattern.fullmatch(path) if of == verb else None
        if match:
            return match.groupdict(), template, name, work
    return None
