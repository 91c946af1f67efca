"""Classes, tenants, shards, nodes and aliases over REST (adapters/handlers/rest of server 1.39)."""

from __future__ import annotations

from typing import Any

from vectormigrate_dagster_tests.emulators.weaviate.collection import Collection
from vectormigrate_dagster_tests.emulators.weaviate.errors import Refused, not_found
from vectormigrate_dagster_tests.emulators.weaviate.gotext import upper_first
from vectormigrate_dagster_tests.emulators.weaviate.rest_request import Answer, Request
from vectormigrate_dagster_tests.emulators.weaviate.shard import Shard


def meta(r: Request) -> Answer:
    settings = r.service.settings
    return 200, {
        "grpcMaxMessageSize": settings.grpc_max_message_size,
        "hostname": "http://[::]:8080",
        "modules": {name: {} for name in settings.modules},
        "version": settings.version,
    }


def schema(r: Request) -> Answer:
    return 200, {"classes": [each.definition for each in r.engine.collections()]}


def get_class(r: Request) -> Answer:
    return 200, r.collection().definition


def drop_class(r: Request) -> Answer:
    r.engine.drop(r.path["name"])
    return 200, None


def shards(r: Request) -> Answer:
    found = r.collection()
    if not found.has_tenants:
        return 200, [_shard(each) for each in found.shards()]
    if not r.tenant:
        loaded = {each.name: each for each in found.shards()}
        return 200, [
            _shard(loaded[name]) if name in loaded else {"name": name, "status": "INACTIVE", "vectorQueueSize": 0}
            for name in found.tenants
        ]
    return 200, [_shard(found.shard(r.tenant))]


def _shard(shard: Shard) -> dict[str, Any]:
    waiting = shard.waiting()
    status = "READONLY" if shard.read_only_because else "INDEXING" if waiting else "READY"
    return {"name": shard.name, "status": status, "vectorQueueSize": waiting}


def update_shard(r: Request) -> Answer:
    status = r.body.get("status")
    if status not in ("READY", "READONLY"):
        raise Refused(f"'{status}' is not a valid shard status")
    for shard in r.collection().shards():
        if shard.name == r.path["shard"]:
            shard.read_only_because = "manually set by user" if status == "READONLY" else None
            return 200, {"status": status}
    raise not_found()


def tenants(r: Request) -> Answer:
    found = _of_tenants(r)
    return 200, [{"name": name, "activityStatus": status} for name, status in found.tenants.items()]


def tenant(r: Request) -> Answer:
    found = _of_tenants(r)
    name = r.path["tenant"]
    if name not in found.tenants:
        raise not_found()
    return 200, {"name": name, "activityStatus": found.tenants[name]}


def _of_tenants(r: Request) -> Collection:
    """The collection that the path names, which must have tenants."""
    found = r.engine.find(r.path["name"])
    if found is None:
        raise Refused("could not get tenants: class not found")
    found.must_have_tenants()
    return found


def delete_tenants(r: Request) -> Answer:
    with r.engine.lock:
        _of_tenants(r).delete_tenants(r.body)
    return 200, None


def change_tenants(r: Request, *, created: bool) -> Answer:
    with r.engine.lock:
        found = _of_tenants(r)
        return 200, (found.add_tenants if created else found.update_tenants)(r.body)


def nodes(r: Request) -> Answer:
    only = r.path.get("name")
    shards = []
    if r.query.get("output") == "verbose":
        for found in r.engine.collections():
            if only is None or found is r.collection():
                shards += [_node_shard(found, each) for each in found.shards()]
    node = {
        "batchStats": {"queueLength": 0, "ratePerSecond": 0},
        "gitHash": "",
        "name": "node1",
        "operationalMode": "ReadWrite",
        "shards": shards or None,
        "status": "HEALTHY",
        "version": r.service.settings.version,
    }
    if r.query.get("output") == "verbose":
        node["stats"] = {"objectCount": sum(each["objectCount"] for each in shards), "shardCount": len(shards)}
    return 200, {"nodes": [node]}


def _node_shard(found: Collection, shard: Shard) -> dict[str, Any]:
    waiting = shard.waiting()
    return {
        "class": found.name,
        "compressed": False,
        "loaded": True,
        "name": shard.name,
        "numberOfReplicas": 1,
        "objectCount": len(shard),
        "replicationFactor": 1,
        "vectorIndexingStatus": "READONLY" if shard.read_only_because else "INDEXING" if waiting else "READY",
        "vectorQueueLength": waiting,
    }


def statistics(r: Request) -> Answer:
    candidates = {"id": "node1", "name": "node1", "status": "HEALTHY", "ready": True, "leaderId": "node1", "raft": {}}
    return 200, {"statistics": [candidates], "synchronized": True}


def aliases(r: Request) -> Answer:
    target = r.query.get("class")
    if target is not None:
        found = r.engine.find(target)
        target = found.name if found else ""
    return 200, {"aliases": [{"alias": a, "class": c} for a, c in r.engine.aliases(target).items()]}


def alias(r: Request) -> Answer:
    aliases = r.engine.aliases()
    name = upper_first(r.path["alias"])
    if name not in aliases:
        raise not_found()
    return 200, {"alias": name, "class": aliases[name]}


def delete_alias(r: Request) -> Answer:
    r.engine.delete_alias(r.path["alias"])
    return 204, None
