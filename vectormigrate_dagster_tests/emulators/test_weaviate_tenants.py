"""Contract: tenants of a collection are what the official client sees on a Weaviate server; also with WEAVIATE_URL."""

from __future__ import annotations

import pytest
from weaviate.classes.config import Configure
from weaviate.classes.tenants import Tenant, TenantActivityStatus
from weaviate.exceptions import WeaviateQueryError

from vectormigrate_dagster_tests.emulators.weaviate_clients import TEXT, Create, fill


def test_tenants(weaviate_create: Create) -> None:
    collection = weaviate_create(properties=[TEXT], multi_tenancy_config=Configure.multi_tenancy(enabled=True))
    collection.tenants.create([Tenant(name="a"), Tenant(name="b", activity_status=TenantActivityStatus.INACTIVE)])
    first, second = collection.with_tenant("a"), collection.with_tenant("b")
    assert len(fill(first, 4)) == 4
    states = {name: each.activity_status for name, each in collection.tenants.get().items()}
    assert states == {"a": TenantActivityStatus.ACTIVE, "b": TenantActivityStatus.INACTIVE}
    with pytest.raises(WeaviateQueryError, match="tenant not active: 'b'"):
        second.query.fetch_objects()
    collection.tenants.update(Tenant(name="b", activity_status=TenantActivityStatus.ACTIVE))
    fill(second, 2)  # the same ids as in the other
    assert (len(first), len(second)) == (4, 2)
    assert len(list(second.iterator())) == 2
    collection.tenants.remove(["a"])
    assert set(collection.tenants.get()) == {"b"}
    with pytest.raises(WeaviateQueryError, match='tenant not found: "a"'):
        first.query.fetch_objects()
    with pytest.raises(WeaviateQueryError, match="has multi-tenancy enabled, but request was without tenant"):
        collection.query.fetch_objects()


def test_tenants_by_themselves(weaviate_create: Create) -> None:
    tenancy = Configure.multi_tenancy(enabled=True, auto_tenant_creation=True, auto_tenant_activation=True)
    collection = weaviate_create(properties=[TEXT], multi_tenancy_config=tenancy)
    fill(collection.with_tenant("new"), 2)
    collection.tenants.update(Tenant(name="new", activity_status=TenantActivityStatus.INACTIVE))
    assert len(collection.with_tenant("new").query.fetch_objects().objects) == 2
    assert collection.tenants.get()["new"].activity_status == TenantActivityStatus.ACTIVE


def test_a_tenant_needs_a_collection_of_tenants(weaviate_create: Create) -> None:
    collection = weaviate_create(properties=[TEXT])
    with pytest.raises(WeaviateQueryError, match="has multi-tenancy disabled, but request was with tenant"):
        collection.with_tenant("a").query.fetch_objects()
