"""Objects and references over REST (adapters/handlers/rest/handlers_objects.go of server 1.39)."""

from __future__ import annotations

from typing import Any

from vectormigrate_dagster_tests.emulators.weaviate import values
from vectormigrate_dagster_tests.emulators.weaviate.errors import Malformed, Refused, not_found
from vectormigrate_dagster_tests.emulators.weaviate.limits import too_many
from vectormigrate_dagster_tests.emulators.weaviate.rest_messages import new_object, shown
from vectormigrate_dagster_tests.emulators.weaviate.rest_request import Answer, Request


def insert(r: Request) -> Answer:
    new = new_object(r.body)
    stored = r.engine.insert(new)
    return 200, shown(r.engine.collection(new.class_name).definition, stored, tenant=new.tenant)


def replace(r: Request) -> Answer:
    new = new_object({**r.body, "class": r.path["name"]})
    if r.body.get("id", r.path["id"]) != r.path["id"]:
        raise Refused("invalid update: field 'id' is immutable")
    new.id = r.path["id"]
    stored = r.engine.replace(new)
    return 200, shown(r.engine.collection(new.class_name).definition, stored, tenant=new.tenant)


def merge(r: Request) -> Answer:
    new = new_object({**r.body, "class": r.path["name"]})
    new.id = r.path["id"]
    r.engine.merge(new)
    return 204, None


def delete(r: Request) -> Answer:
    r.engine.delete(r.path["name"], r.path["id"], r.tenant)
    return 204, None


def head(r: Request) -> Answer:
    if r.collection().shard(r.tenant).get(r.path["id"].lower()) is None:
        raise not_found()
    return 204, None


def get(r: Request) -> Answer:
    found = r.collection()
    stored = found.shard(r.tenant).get(r.path["id"].lower())
    if stored is None:
        raise not_found()
    with_vectors = "vector" in r.query.get("include", "").split(",")
    return 200, shown(found.definition, stored, tenant=r.tenant, with_vectors=with_vectors)


def page(r: Request) -> Answer:
    found = r.engine.find(r.query.get("class", ""))
    if found is None:
        raise not_found()
    after, limit = r.query.get("after"), int(r.query.get("limit", r.service.settings.default_limit))
    if after is not None and int(r.query.get("offset", 0)):
        raise Refused("cursor api: invalid 'after' parameter: offset cannot be set with after and limit parameters")
    offset = int(r.query.get("offset", 0))
    if offset + limit > r.service.settings.max_results:
        raise Refused(f"msg:offset or limit code:400 err:{too_many(offset, limit, r.service.settings.max_results)}")
    shown_here = found.shard(r.tenant).after(after or None, offset + limit)[offset:]
    with_vectors = "vector" in r.query.get("include", "").split(",")
    objects = [shown(found.definition, stored, tenant=r.tenant, with_vectors=with_vectors) for stored in shown_here]
    return 200, {"deprecations": [], "objects": objects, "totalResults": len(objects)}


def add_reference(r: Request) -> Answer:
    with r.engine.lock:
        _references(r).extend(_beacons(r))
    return 200, None


def replace_references(r: Request) -> Answer:
    with r.engine.lock:
        _references(r)[:] = _beacons(r)
    return 200, None


def delete_reference(r: Request) -> Answer:
    with r.engine.lock:
        gone, held = _beacons(r, check=False), _references(r)
        held[:] = [each for each in held if each not in gone]
    return 204, None


def batch_references(r: Request) -> Answer:
    """Add references one by one; whether what they point to exists is only checked if there are tenants."""
    answers = []
    for each in r.body:
        tenant = each.get("tenant") or r.tenant
        result: dict[str, Any] = {"status": "SUCCESS"}
        try:
            parts = each["from"].removeprefix(values.BEACON).split("/")
            if len(parts) != 3:
                raise Malformed(601, f'from in body must be of type uri: "{each["from"]}"')
            path = dict(zip(("name", "id", "property"), parts, strict=True))
            one = Request(r.service, path, {"tenant": tenant}, {"beacon": each["to"]})
            with r.engine.lock:
                _references(one).extend(_beacons(one, check=bool(tenant)))
        except Malformed:
            raise
        except Refused as error:
            result = {"status": "FAILED", "errors": {"error": [{"message": str(error) or "object not found"}]}}
        answers.append({"from": each["from"], "to": each["to"], "result": result})
    return 200, answers


def _references(r: Request) -> list[str]:
    """The references that the path names, as they are stored."""
    found = r.collection()
    stored = found.writable(r.tenant).get(r.path["id"].lower())
    if stored is None:
        raise not_found()
    held: list[str] = stored.properties.setdefault(_property(r)["name"], [])
    return held


def _property(r: Request) -> dict[str, Any]:
    """The property that the path names, which must be one of references."""
    each = values.find(r.collection().definition, r.path["property"])
    if not values.is_reference(each["dataType"]):
        raise Refused(f"msg:validate inputs code:400 err:property '{each['name']}' is not a reference-type")
    return each


def _beacons(r: Request, *, check: bool = True) -> list[str]:
    """The references of the body."""
    found, each = r.collection(), _property(r)
    given = r.body if isinstance(r.body, list) else [r.body]

    def exists(class_name: str, key: str) -> bool:
        return not check or r.engine.exists(class_name, key, r.tenant)

    return [values.beacon(each, one, found.name, exists) for one in given]
