"""The documents API, which serves every index but legacy vector indexes: keys in snake case, and POSTs only.

Forms: pinecone/models/documents of client 10.2, and https://docs.pinecone.io/guides/indexes/data-modeling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vectormigrate_dagster_tests.emulators.pinecone import records as r
from vectormigrate_dagster_tests.emulators.pinecone.errors import Kind, Refused, invalid
from vectormigrate_dagster_tests.emulators.pinecone.filters import Predicate, compiled
from vectormigrate_dagster_tests.emulators.pinecone.index import Index
from vectormigrate_dagster_tests.emulators.pinecone.namespace import Namespace
from vectormigrate_dagster_tests.emulators.pinecone.paging import after_token, limit_of, page, paginated, token_of
from vectormigrate_dagster_tests.emulators.pinecone.request import Answer, Request
from vectormigrate_dagster_tests.emulators.pinecone.schemas import MAX_NAME_BYTES
from vectormigrate_dagster_tests.emulators.pinecone.scores import nearest
from vectormigrate_dagster_tests.emulators.pinecone.settings import MAX_PAGE, MAX_TOP_K, Settings

USAGE = {"read_units": 1}
MAX_TEXT_BYTES = 100 * 1024


def upsert(request: Request) -> Answer:
    given, index = _listed(request, "documents"), request.index(legacy=False)
    request.known("documents")
    documents = [_document(each, index, request.settings) for each in given]
    _check_unique(document.id for document in documents)
    request.ordered.check_ids(document.id for document in documents)
    lsn = index.to_write(request.path["name"]).accept(lambda namespace: namespace.store(documents))
    return Answer({"upserted_count": len(documents)}, request.committed(lsn))


def _document(given: Any, index: Index, settings: Settings) -> r.Record:
    if not isinstance(given, dict):
        raise invalid("a document is no JSON object")
    document = _fields({key: value for key, value in given.items() if key != "_id"}, index, settings, given.get("_id"))
    required = [name for name, field in index.fields.items() if field["type"] == "dense_vector"]
    missing = [name for name in required if name not in document.vectors]
    if missing:
        raise invalid(f"Document '{document.id}' is missing required fields: {', '.join(missing)}")
    if not document.vectors and not document.texts:
        raise invalid(f"Document '{document.id}' must have at least one of the fields: {', '.join(index.fields)}")
    return document


def _fields(given: dict[str, Any], index: Index, settings: Settings, id: Any) -> r.Record:
    """The fields of a document, or of a change to one: vectors and texts by the schema, metadata for the rest."""
    document = r.Record(r.checked_id(id))
    metadata: dict[str, Any] = {}
    for name, value in given.items():
        field = index.fields.get(name)
        if field is None:
            metadata[_checked_name(name)] = value
        elif value is None:
            raise invalid(f"Field '{name}' of document '{document.id}' must not be null")
        elif field["type"] == "dense_vector":
            document.vectors[name] = r.dense(value, field["dimension"], document.id)
        elif field["type"] == "sparse_vector":
            document.vectors[name] = r.sparse(value, settings, document.id)
        elif not isinstance(value, str) or len(value.encode()) > MAX_TEXT_BYTES:
            raise invalid(
                f"Field '{name}' of document '{document.id}' must be a string of at most {MAX_TEXT_BYTES} bytes"
            )
        else:
            document.texts[name] = value
    document.metadata = r.metadata(metadata, settings)
    return document


def _checked_name(name: str) -> str:
    if name.startswith(("_", "$")) or not name or len(name.encode()) > MAX_NAME_BYTES:
        raise invalid(f"Field name '{name}' must have 1 to {MAX_NAME_BYTES} bytes and must not start with '_' or '$'")
    return name


def fetch(request: Request) -> Answer:
    body = request.known("ids", "filter", "include_fields", "pagination_token", "limit")
    index, ids = request.index(legacy=False), body.get("ids") or []
    if bool(ids) == (body.get("filter") is not None):
        raise invalid("Exactly one of 'ids' and 'filter' must be provided")
    namespace = index.to_read(request.path["name"])
    token = None
    if ids:
        _check_count(ids, request.settings)
        chosen = [each for each in dict.fromkeys(map(r.checked_id, ids)) if each in namespace.records]
        chosen = [each for each in chosen if not request.ordered.omits(each)]
    else:
        limit, scope = limit_of(body.get("limit"), 10_000, 100), [index.name, namespace.name, "filter"]
        after = after_token(scope, body.get("pagination_token"), request.ordered)
        matching = namespace.matching(_condition(body["filter"], index))
        rest = [each for each in matching if after is None or each > after]
        chosen, token = rest[:limit], token_of(scope, rest[limit - 1]) if len(rest) > limit else None
    show = _shown(body.get("include_fields") or ["*"], request.settings)
    documents = {each: show(namespace.records[each]) for each in chosen}
    return Answer(paginated({"documents": documents, "namespace": namespace.name, "usage": USAGE}, token))


def list_ids(request: Request) -> Answer:
    body = request.known("prefix", "limit", "pagination_token")
    index = request.index(legacy=False)
    limit = request.ordered.page(limit_of(body.get("limit"), MAX_PAGE, MAX_PAGE))
    namespace = index.to_read(request.path["name"])
    ids, token = page(index, namespace, body.get("prefix"), body.get("pagination_token"), limit, request)
    documents = [{"_id": each} for each in ids]
    return Answer(paginated({"documents": documents, "namespace": namespace.name, "usage": USAGE}, token))


def search(request: Request) -> Answer:
    body = request.known("score_by", "top_k", "include_fields", "filter")
    index, top_k = request.index(legacy=False), body.get("top_k")
    if type(top_k) is not int or not 1 <= top_k <= MAX_TOP_K:
        raise invalid(f"top_k must be between 1 and {MAX_TOP_K}, got {top_k}")
    dense, sparse = _scored_by(body.get("score_by"), index, request.settings)
    predicate = _condition(body["filter"], index) if body.get("filter") else None
    namespace = index.to_read(request.path["name"])
    show = _shown(body.get("include_fields") or [], request.settings)
    found = nearest(namespace, top_k, predicate, dense, sparse)
    matches = [{**show(document), "_score": score} for document, score in found]
    answer = {"matches": matches, "namespace": namespace.name, "usage": USAGE}
    return Answer(answer, request.indexed(namespace.indexed), limit=request.settings.max_answer_bytes)


def _scored_by(clauses: Any, index: Index, settings: Settings) -> tuple[Any, Any]:
    """The field and query that rank documents: a dense one and none, or none and a sparse one."""
    if not isinstance(clauses, list) or not clauses or not all(isinstance(each, dict) for each in clauses):
        raise invalid("score_by must hold at least one clause")
    kinds = {clause.get("type") for clause in clauses}
    if kinds <= {"text", "query_string"}:
        raise Refused(Kind.UNIMPLEMENTED, "the stand-in searches no text")
    if len(clauses) > 1 or not kinds <= {"dense_vector", "sparse_vector"}:
        raise invalid(f"score_by clauses {sorted(map(str, kinds))} are unknown or cannot be combined")
    [clause] = clauses
    named = clause.get("field") or (clause.get("fields") or [None])[0]
    field = index.fields.get(named)
    if field is None or field["type"] != clause["type"]:
        raise invalid(f"score_by: '{named}' is no {clause['type']} field of the index")
    if clause["type"] == "dense_vector":
        return (named, field["metric"], r.dense(clause.get("values"), field["dimension"], "query")), None
    return None, (named, r.sparse(clause.get("sparse_values"), settings, "query"))


def update(request: Request) -> Answer:
    body = request.known("documents", "filter", "set_fields", "remove_fields")
    index, settings = request.index(legacy=False), request.settings
    if (body.get("documents") is None) == (body.get("filter") is None):
        raise invalid("Exactly one of 'documents' and 'filter' must be provided")
    if body.get("filter") is not None:
        removed = _removable(body.get("remove_fields") or [], index)
        changed = _fields(body.get("set_fields") or {}, index, settings, "filter")
        predicate = _condition(body["filter"], index)
        namespace = index.to_change(request.path["name"])
        matched = len(namespace.matching(predicate))
        lsn = namespace.accept(lambda there: _merge(there, there.matching(predicate), changed, removed))
        return Answer({"matched_records": matched}, request.committed(lsn))
    patches = [_patch(each, index, settings) for each in _listed(request, "documents")]
    _check_unique(changed.id for changed, _ in patches)
    request.ordered.check_ids(changed.id for changed, _ in patches)

    def change(namespace: Namespace) -> None:
        for changed, removed in patches:
            _merge(namespace, [changed.id], changed, removed)

    return Answer({}, request.committed(index.to_change(request.path["name"]).accept(change)))


def _patch(given: Any, index: Index, settings: Settings) -> tuple[r.Record, list[str]]:
    if not isinstance(given, dict):
        raise invalid("a document is no JSON object")
    removed = _removable(given.get("_remove_fields") or [], index)
    changed = {key: value for key, value in given.items() if key not in ("_id", "_remove_fields")}
    return _fields(changed, index, settings, given.get("_id")), removed


def _removable(names: list[str], index: Index) -> list[str]:
    if required := [name for name in names if index.fields.get(name, {}).get("type") == "dense_vector"]:
        raise invalid(f"Field '{required[0]}' is required and cannot be removed")
    return names


def _merge(there: Namespace, ids: list[str], changed: r.Record, removed: list[str]) -> None:
    """Change documents in part; those that do not exist stay so."""

    def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in {**old, **new}.items() if name not in removed}

    for old in [there.records[each] for each in ids if each in there.records]:
        vectors, metadata = merged(old.vectors, changed.vectors), merged(old.metadata, changed.metadata)
        there.store([r.Record(old.id, vectors, metadata, merged(old.texts, changed.texts))])


def delete(request: Request) -> Answer:
    body = request.known("ids", "filter", "delete_all")
    index, ids = request.index(legacy=False), body.get("ids") or []
    if bool(ids) + (body.get("filter") is not None) + (body.get("delete_all") is True) != 1:
        raise invalid("Exactly one of 'ids', 'filter' and 'delete_all' must be provided")
    _check_count(ids, request.settings)
    chosen = [r.checked_id(each) for each in ids]
    predicate = _condition(body["filter"], index) if body.get("filter") is not None else None
    namespace = index.to_change(request.path["name"])
    answer = {} if predicate is None else {"matched_records": len(namespace.matching(predicate))}
    lsn = namespace.accept(lambda there: there.remove(chosen, predicate, everything=body.get("delete_all") is True))
    return Answer(answer, request.committed(lsn))


def _condition(condition: Any, index: Index) -> Predicate:
    if not condition:
        raise invalid("The 'filter' field must be a non-empty object of filter predicates")
    return compiled(condition, index.fields)


def _shown(include: list[str], settings: Settings) -> Callable[[r.Record], dict[str, Any]]:
    """What turns a document into its form in an answer, with all its fields or some."""

    def show(document: r.Record) -> dict[str, Any]:
        vectors = {name: v.plain() if isinstance(v, r.Sparse) else v for name, v in document.vectors.items()}
        fields = {**vectors, **document.texts, **r.written(document.metadata, settings)}
        return {
            "_id": document.id,
            **(fields if "*" in include else {name: fields[name] for name in include if name in fields}),
        }

    return show


def _listed(request: Request, key: str) -> list[Any]:
    given = request.body.get(key) if isinstance(request.body, dict) else None
    if not isinstance(given, list) or not given:
        raise invalid(f"'{key}' must contain at least one document")
    _check_count(given, request.settings)
    return given


def _check_count(given: list[Any], settings: Settings) -> None:
    if len(given) > settings.max_records:
        raise invalid(
            f"Number of documents or ids ({len(given)}) exceeds the limit of {settings.max_records} per request"
        )


def _check_unique(ids: Any) -> None:
    seen: set[str] = set()
    for each in ids:
        if each in seen:
            raise invalid(f"Document '_id' '{each}' is not unique within the request")
        seen.add(each)
