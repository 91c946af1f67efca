"""The namespaces' part of the data plane, which serves both kinds of index, if they are serverless."""

from __future__ import annotations

from typing import Any

from vectormigrate_dagster_tests.emulators.pinecone.errors import Kind, Refused, invalid
from vectormigrate_dagster_tests.emulators.pinecone.index import DEFAULT_NAMESPACE, Index, checked_namespace
from vectormigrate_dagster_tests.emulators.pinecone.namespace import Namespace
from vectormigrate_dagster_tests.emulators.pinecone.paging import after_token, limit_of, paginated, token_of
from vectormigrate_dagster_tests.emulators.pinecone.request import Answer, Request
from vectormigrate_dagster_tests.emulators.pinecone.settings import MAX_PAGE


def create(request: Request) -> Answer:
    body = request.known("name", "schema")
    index, name = _index(request), body.get("name")
    if not isinstance(name, str) or not name or name == DEFAULT_NAMESPACE:
        raise invalid(f"Namespace name '{name}' is reserved or empty")
    if checked_namespace(name) in index.namespaces:
        raise Refused(Kind.EXISTS, f"Namespace {name} already exists")
    fields = (body.get("schema") or {}).get("fields") or {}
    for field, config in fields.items():
        if config.get("filterable") is not True:
            raise invalid(
                f"Field '{field}' is set to filterable: false. Only filterable: true is supported. "
                "To avoid indexing the field, omit it from the list of fields."
            )
    index.namespaces[name] = Namespace(name, request.settings, fields or None, created=True)
    return Answer(_described(index.namespaces[name]))


def describe(request: Request) -> Answer:
    return Answer(_described(_index(request).to_change(request.path["name"])))


def delete(request: Request) -> Answer:
    index = _index(request)
    del index.namespaces[index.to_change(request.path["name"]).name]
    return Answer({})


def list_all(request: Request) -> Answer:
    index = _index(request)
    limit, prefix = limit_of(request.one("limit"), MAX_PAGE, MAX_PAGE), request.one("prefix") or ""
    scope = [index.name, "namespaces", prefix]
    after = after_token(scope, request.one("paginationToken"), request.ordered)
    matching = [each for name, each in index.seen().items() if name.startswith(prefix)]
    rest = [each for each in matching if after is None or each.name > after]
    limit = request.ordered.page(limit)
    shown = rest[:limit]
    token = token_of(scope, shown[-1].name if shown else after or "") if len(rest) > limit else None
    answer = {"namespaces": [_described(each) for each in shown], "total_count": len(matching)}
    return Answer(paginated(answer, token))


def _index(request: Request) -> Index:
    index = request.index()
    if index.pod:
        raise Refused(Kind.UNIMPLEMENTED, "namespace operations are not supported for pod-based indexes")
    return index


def _described(namespace: Namespace) -> dict[str, Any]:
    """A namespace, whose count is written as text."""
    answer: dict[str, Any] = {"name": namespace.name, "record_count": str(len(namespace.records))}
    if namespace.schema is not None:
        answer["schema"] = {"fields": namespace.schema}
        answer["indexed_fields"] = {"fields": sorted(namespace.schema)}
    return answer
