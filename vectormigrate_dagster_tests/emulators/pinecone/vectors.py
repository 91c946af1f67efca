"""The vectors API, which serves legacy vector indexes: https://docs.pinecone.io/reference/api/2025-10/data-plane."""

from __future__ import annotations

from typing import Any

from vectormigrate_dagster_tests.emulators.pinecone import records as r
from vectormigrate_dagster_tests.emulators.pinecone.errors import Kind, Refused, invalid
from vectormigrate_dagster_tests.emulators.pinecone.filters import Predicate, compiled
from vectormigrate_dagster_tests.emulators.pinecone.index import DEFAULT_NAMESPACE, DENSE, SPARSE, Index
from vectormigrate_dagster_tests.emulators.pinecone.namespace import Namespace
from vectormigrate_dagster_tests.emulators.pinecone.paging import after_token, limit_of, page, paginated, token_of
from vectormigrate_dagster_tests.emulators.pinecone.request import Answer, Request
from vectormigrate_dagster_tests.emulators.pinecone.scores import nearest
from vectormigrate_dagster_tests.emulators.pinecone.settings import MAX_PAGE, MAX_TOP_K, Settings

USAGE = {"readUnits": 1}


def upsert(request: Request) -> Answer:
    body = request.known("vectors", "namespace")
    index, given = request.index(legacy=True), body.get("vectors")
    if not isinstance(given, list) or not given:
        raise invalid("No vectors were given to upsert")
    if len(given) > request.settings.max_records:
        raise invalid(f"Request has {len(given)} vectors, which exceeds the limit of {request.settings.max_records}")
    records = [_record(each, index, request.settings) for each in given]
    request.ordered.check_ids(record.id for record in records)
    lsn = index.to_write(body.get("namespace")).accept(lambda namespace: namespace.store(records))
    return Answer({"upsertedCount": len(records)}, request.committed(lsn))


def _record(given: Any, index: Index, settings: Settings) -> r.Record:
    if not isinstance(given, dict):
        raise invalid("a vector is no JSON object")
    if unknown := given.keys() - {"id", "values", "sparseValues", "sparse_values", "metadata"}:
        raise invalid(f"unknown field '{min(unknown)}' of a vector")
    record = r.Record(r.checked_id(given.get("id")))
    if DENSE in index.fields:
        record.vectors[DENSE] = r.dense(given.get("values", []), index.fields[DENSE]["dimension"], record.id)
    elif given.get("values"):
        raise invalid("Index configuration does not support dense values")
    sparse = given.get("sparseValues", given.get("sparse_values"))
    if sparse is not None:
        if SPARSE not in index.fields:
            raise invalid("Index configuration does not support sparse values")
        record.vectors[SPARSE] = r.sparse(sparse, settings, record.id)
    elif DENSE not in index.fields:
        raise invalid("Sparse vector must contain at least one value")
    record.metadata = r.metadata(given.get("metadata"), settings)
    return record


def fetch(request: Request) -> Answer:
    index = request.index(legacy=True)
    ids = request.query.get("ids", [])
    if not ids:
        raise invalid("No IDs were given to fetch")
    if len(ids) > request.settings.max_records:
        raise invalid(f"Request has {len(ids)} IDs, which exceeds the limit of {request.settings.max_records}")
    _check_spaces(ids, request.settings)
    namespace = index.to_read(request.one("namespace"))
    found = [each for each in dict.fromkeys(map(r.checked_id, ids)) if each in namespace.records]
    vectors = {
        each: plain(namespace.records[each], request.settings) for each in found if not request.ordered.omits(each)
    }
    return Answer({"vectors": vectors, "namespace": _named(namespace), "usage": USAGE})


def fetch_by_metadata(request: Request) -> Answer:
    body = request.known("filter", "namespace", "limit", "paginationToken")
    index = _serverless(request.index(legacy=True), "fetch_by_metadata")
    if not body.get("filter"):
        raise invalid("Empty filter provided for fetch by metadata request")
    limit = limit_of(body.get("limit"), 10_000, 100)
    namespace = index.to_read(body.get("namespace"))
    scope = [index.name, namespace.name, "filter"]
    after = after_token(scope, body.get("paginationToken"), request.ordered)
    ids = [each for each in namespace.matching(compiled(body["filter"])) if after is None or each > after]
    vectors = {each: plain(namespace.records[each], request.settings) for each in ids[:limit]}
    token = token_of(scope, ids[limit - 1]) if len(ids) > limit else None
    return Answer(paginated({"vectors": vectors, "namespace": _named(namespace), "usage": USAGE}, token))


def list_ids(request: Request) -> Answer:
    index = _serverless(request.index(legacy=True), "list")
    limit = request.ordered.page(limit_of(request.one("limit"), MAX_PAGE, MAX_PAGE))
    _check_spaces([request.one("prefix") or ""], request.settings)
    namespace = index.to_read(request.one("namespace"))
    ids, token = page(index, namespace, request.one("prefix"), request.one("paginationToken"), limit, request)
    vectors = [{"id": each} for each in ids]
    return Answer(paginated({"vectors": vectors, "namespace": _named(namespace), "usage": USAGE}, token))


def delete(request: Request) -> Answer:
    body = request.known("ids", "deleteAll", "filter", "namespace")
    index = request.index(legacy=True)
    ids, condition, everything = body.get("ids"), body.get("filter"), body.get("deleteAll") is True
    if everything and ids:
        raise invalid("No explicit IDs allowed when delete_all=true")
    if everything and condition:
        raise invalid("No filter allowed when delete_all=true")
    if condition is not None and not condition:
        raise invalid("Delete with empty metadata filter is not allowed")
    if not (everything or condition or ids):
        raise invalid("No IDs were given to delete")
    if ids and len(ids) > request.settings.max_records:
        raise invalid(f"Request has {len(ids)} IDs, which exceeds the limit of {request.settings.max_records}")
    chosen = [r.checked_id(each) for each in ids or []]
    predicate = compiled(condition) if condition else None
    lsn = index.to_change(body.get("namespace")).accept(
        lambda there: there.remove(chosen, predicate, everything=everything)
    )
    return Answer({}, request.committed(lsn))


def update(request: Request) -> Answer:
    body = request.known("id", "values", "sparseValues", "setMetadata", "filter", "dryRun", "namespace")
    index, settings = request.index(legacy=True), request.settings
    owner, condition = body.get("id"), body.get("filter")
    if (owner is None) == (condition is None):
        raise invalid("Exactly one of id or filter must be provided")
    added = r.metadata(body.get("setMetadata"), settings)
    if condition is not None:
        if not condition:
            raise invalid("Update with empty metadata filter is not allowed")
        if "values" in body or "sparseValues" in body:
            raise invalid("Update by metadata request does not support updating vector values.")
        return _update_matching(request, index.to_change(body.get("namespace")), compiled(condition), added)
    changed = r.Record(r.checked_id(owner), _changed_vectors(body, index, settings, owner), added)
    request.ordered.check_ids([changed.id])
    lsn = index.to_change(body.get("namespace")).accept(lambda there: merge(there, changed))
    return Answer({}, request.committed(lsn))


def _changed_vectors(body: dict[str, Any], index: Index, settings: Settings, owner: str) -> dict[str, Any]:
    vectors: dict[str, Any] = {}
    for name, key, kind in ((DENSE, "values", "dense"), (SPARSE, "sparseValues", "sparse")):
        if body.get(key):
            if name not in index.fields:
                raise invalid(f"Index configuration does not support {kind} values")
            if kind == "dense":
                vectors[name] = r.dense(body[key], index.fields[name]["dimension"], owner)
            else:
                vectors[name] = r.sparse(body[key], settings, owner)
    return vectors


def merge(namespace: Namespace, changed: r.Record) -> None:
    """Change a record in part; one that does not exist stays so."""
    found = namespace.records.get(changed.id)
    if found is not None:
        vectors, metadata = {**found.vectors, **changed.vectors}, {**found.metadata, **changed.metadata}
        namespace.store([r.Record(found.id, vectors, metadata)])


def _update_matching(request: Request, namespace: Namespace, predicate: Predicate, added: r.Metadata) -> Answer:
    matched = {"matchedRecords": len(namespace.matching(predicate))}
    if request.body.get("dryRun") is True:
        return Answer(matched)

    def change(there: Namespace) -> None:
        for each in there.matching(predicate):
            merge(there, r.Record(each, {}, added))

    return Answer(matched, request.committed(namespace.accept(change)))


def query(request: Request) -> Answer:
    body = request.known(
        *("topK", "vector", "id", "sparseVector", "filter", "includeValues", "includeMetadata", "namespace"),
        *("scanFactor", "maxCandidates"),
    )
    index = request.index(legacy=True)
    if "scanFactor" in body or "maxCandidates" in body:
        raise invalid("scanFactor and maxCandidates are only supported on dedicated read nodes")
    top_k = body.get("topK")
    if type(top_k) is not int or not 1 <= top_k <= MAX_TOP_K:
        raise invalid(f"topK must be between 1 and {MAX_TOP_K}, got {top_k}")
    predicate = compiled(body["filter"]) if body.get("filter") else None
    namespace = index.to_read(body.get("namespace"))
    dense, sparse = _asked(body, index, namespace, request.settings)
    found = nearest(namespace, top_k, predicate, dense, sparse) if dense or sparse else []
    matches = [
        {
            "score": score,
            **plain(record, request.settings, body.get("includeValues") is True, body.get("includeMetadata") is True),
        }
        for record, score in found
    ]
    answer = {"matches": matches, "namespace": _named(namespace), "usage": USAGE}
    return Answer(answer, request.indexed(namespace.indexed), limit=request.settings.max_answer_bytes)


def _asked(body: dict[str, Any], index: Index, namespace: Namespace, settings: Settings) -> tuple[Any, Any]:
    """The query's dense and sparse vector, each with its field; none if it names a record that does not exist."""
    dense, sparse = body.get("vector"), body.get("sparseVector")
    if body.get("id") is not None:
        if dense is not None or sparse is not None:
            raise invalid("Cannot provide both 'ID' and 'vector' at the same time")
        found = namespace.records.get(r.checked_id(body["id"]))
        vectors = found.vectors if found else {}
        asked_dense, asked_sparse = vectors.get(DENSE), vectors.get(SPARSE)
    else:
        if not dense and not sparse:
            raise invalid("At least one of vector, id, or sparseVector must be provided")
        asked_dense = _asked_dense(dense, index) if dense else None
        asked_sparse = r.sparse(sparse, settings, "query") if sparse else None
    if asked_sparse is not None and (
        SPARSE not in index.fields or index.fields.get(DENSE, {}).get("metric", "dotproduct") != "dotproduct"
    ):
        raise invalid("Index configuration does not support sparse values")
    return (
        None if asked_dense is None else (DENSE, index.fields[DENSE]["metric"], asked_dense),
        None if asked_sparse is None else (SPARSE, asked_sparse),
    )


def _asked_dense(values: Any, index: Index) -> Any:
    if DENSE not in index.fields:
        raise invalid("Index configuration does not support dense values")
    return r.dense(values, index.fields[DENSE]["dimension"], "query")


def stats(request: Request) -> Answer:
    body = request.known("filter")
    index = request.index()
    if body.get("filter") is not None:
        raise invalid("Index stats cannot be filtered by metadata")
    counts = {name: {"vectorCount": len(namespace.records)} for name, namespace in index.seen().items()}
    dense = index.fields.get(DENSE) or next((f for f in index.fields.values() if f["type"] == "dense_vector"), None)
    answer = {
        "namespaces": counts,
        "indexFullness": 0.0,
        "totalVectorCount": sum(count["vectorCount"] for count in counts.values()),
        "metric": dense["metric"] if dense else "dotproduct",
        "vectorType": "dense" if dense else "sparse",
    }
    return Answer({**answer, "dimension": dense["dimension"]} if dense else answer)


def plain(record: r.Record, settings: Settings, values: bool = True, metadata: bool = True) -> dict[str, Any]:
    """A record as answers have it; what it lacks is left out."""
    answer: dict[str, Any] = {"id": record.id}
    if values and DENSE in record.vectors:
        answer["values"] = record.vectors[DENSE]
    if values and SPARSE in record.vectors:
        answer["sparseValues"] = record.vectors[SPARSE].plain()
    if metadata and record.metadata:
        answer["metadata"] = r.written(record.metadata, settings)
    return answer


def _check_spaces(values: list[str], settings: Settings) -> None:
    if not settings.spaces and any(" " in each for each in values):
        raise invalid("values containing spaces are not accepted")


def _serverless(index: Index, what: str) -> Index:
    if index.pod:
        raise Refused(Kind.UNIMPLEMENTED, f"{what} is not supported for pod-based indexes")
    return index


def _named(namespace: Namespace) -> str:
    return "" if namespace.name == DEFAULT_NAMESPACE else namespace.name
