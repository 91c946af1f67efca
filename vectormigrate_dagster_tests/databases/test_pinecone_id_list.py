"""A file of ids as the way into an index that cannot list its own (a pod index)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pinecone import Pinecone

from vectormigrate_dagster.databases import open_target
from vectormigrate_dagster.databases.pinecone.id_list import IdList
from vectormigrate_dagster.errors import ConfigurationError, DatabaseError
from vectormigrate_dagster_tests.databases.pinecone_support import column, endpoint, everything, ids_of, plain, schema
from vectormigrate_dagster_tests.emulators.pinecone import PineconeStandIn, Settings


def parquet(path: Path, **columns: list[str | None]) -> Path:
    pq.write_table(pa.table({name: pa.array(values, type=pa.string()) for name, values in columns.items()}), path)
    return path


def text(path: Path, content: str) -> Path:
    path.write_bytes(content.encode())
    return path


@pytest.mark.parametrize("form", ["parquet", "text"])
def test_a_list_is_sorted_and_names_each_id_once(tmp_path: Path, form: str) -> None:
    if form == "parquet":
        file = parquet(
            tmp_path / "ids.parquet", id=["b", "a", "b", "a", "c"], namespace=["", "x", None, "x", "__default__"]
        )
    else:
        file = text(tmp_path / "ids.txt", "b\na\tx\r\n\nb\t\na\tx\nc\t__default__")
    listed = IdList(file)
    assert listed.namespaces == ["__default__", "x"]
    assert [value for page in listed.between("__default__") for value in page] == ["b", "c"]
    assert [value for page in listed.between("x") for value in page] == ["a"]
    assert [value for page in listed.between("elsewhere") for value in page] == []
    assert [listed.count(name) for name in ("__default__", "x", "elsewhere")] == [2, 1, 0]


def test_a_list_without_namespaces_is_of_the_default_one(tmp_path: Path) -> None:
    assert IdList(parquet(tmp_path / "ids.parquet", id=["a"])).namespaces == ["__default__"]
    assert IdList(text(tmp_path / "ids.txt", "a b\n")).namespaces == ["__default__"]
    # Some editors begin a file with a mark, which is none of the first id.
    assert [*IdList(text(tmp_path / "marked.txt", "\ufeffa\n")).between("__default__")] == [["a"]]


def test_ranges_and_quantiles_follow_the_order_of_bytes(tmp_path: Path) -> None:
    ids = [f"{number}" for number in range(2500)] + ["Z", "a", "~", " "]
    listed = IdList(parquet(tmp_path / "ids.parquet", id=list(ids)))
    expected = sorted(ids)
    for after, last in ((None, None), ("100", None), (None, "100"), ("0", "1000"), ("1000x", "9"), ("9", "1")):
        wanted = [each for each in expected if (after is None or each > after) and (last is None or each <= last)]
        assert [value for page in listed.between("__default__", after, last) for value in page] == wanted
    bounds = listed.quantiles("__default__", 4)
    assert [expected.index(str(bound)) + 1 for bound in bounds] == [626, 1252, 1878]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: folder / "nothing.txt", "cannot be read"),
        (lambda folder: parquet(folder / "a.parquet", name=["a"]), "no column 'id'"),
        (lambda folder: text(folder / "b.parquet", "no parquet"), "cannot be read"),
        (lambda folder: text(folder / "c.txt", "é\n"), "1 to 512 ASCII"),
        (lambda folder: parquet(folder / "d.parquet", id=["a", None]), "1 to 512 ASCII"),
        (lambda folder: parquet(folder / "e.parquet", id=["x" * 513]), "1 to 512 ASCII"),
        (lambda folder: parquet(folder / "f.parquet", id=["a\0"]), "1 to 512 ASCII"),
    ],
)
def test_a_list_that_cannot_be_one_is_refused(tmp_path: Path, make: object, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        IdList(make(tmp_path))  # type: ignore[operator]


def test_what_is_listed_is_planned_scanned_and_counted_without_asking_for_lists(
    pinecone_stand_in: PineconeStandIn, tmp_path: Path
) -> None:
    ids = [f"{number:04}" for number in range(300)]
    with open_target(endpoint(pinecone_stand_in)) as database:
        database.create(schema())
        database.upsert(plain(ids))
        database.upsert(plain(ids[:10], "ns"))
        database.wait_visible()
    pinecone_stand_in.clear_faults()
    lines = [*ids[:250], "not there", *(f"{value}\tns" for value in ids[:5])]
    file = text(tmp_path / "ids.txt", "\n".join(lines))
    with open_target(endpoint(pinecone_stand_in, id_list=str(file), missing_s=0.0)) as database:
        assert database.scopes() == ["__default__", "ns"]
        assert database.count() == 256
        assert [database.count(scope) for scope in database.scopes()] == [251, 5]
        splits = database.plan_splits(100)
        assert [split.records for split in splits] == [83, 84, 84, 5]
        batches = everything(database, splits, page=40)
        assert ids_of(batches) == [*ids[:250], *ids[:5]]
        assert [value for batch in batches for value in batch.vanished] == ["not there"]
    assert not {"List", "ListNamespaces"} & pinecone_stand_in.calls().keys()


@pytest.fixture
def pods() -> Iterator[PineconeStandIn]:
    """A server with the pod index `things`, of two records in namespace `ns` and one in the default one."""
    with PineconeStandIn(Settings(pods=True)) as server:
        pod = {"deployment_type": "pod", "environment": "us-east1-gcp", "pod_type": "p1.x1", "replicas": 1, "shards": 1}
        fields = {"_values": {"type": "dense_vector", "dimension": 2, "metric": "dotproduct"}}
        with Pinecone(api_key=server.api_key, host=server.url) as client:
            client.indexes.create(name="things", schema={"fields": fields}, deployment=pod, timeout=-1)
        with open_target(endpoint(server)) as database:
            database.upsert(plain(["a", "b"], "ns"))
            database.upsert(plain(["c"]))
        server.clear_faults()
        yield server


def test_a_pod_index_without_a_list_says_what_it_needs(pods: PineconeStandIn) -> None:
    with open_target(endpoint(pods)) as database:
        assert database.describe().settings["deployment"]["deployment_type"] == "pod"
        assert database.scopes() == ["__default__", "ns"]
        assert database.count() == 3
        assert database.count("ns") == 2
        assert len(database.fetch(column(["c"])).batch) == 1
        for read in (lambda: database.plan_splits(10), lambda: everything(database)):
            with pytest.raises(DatabaseError, match=r"options\.id_list"):
                read()
    assert not {"List", "ListNamespaces"} & pods.calls().keys()


def test_a_pod_index_is_read_by_its_list(pods: PineconeStandIn, tmp_path: Path) -> None:
    file = parquet(tmp_path / "ids.parquet", id=["b", "c", "a"], namespace=["ns", None, "ns"])
    with open_target(endpoint(pods, id_list=str(file))) as database:
        assert database.count() == 3
        batches = everything(database)
        assert [(batch.scope, batch.ids.to_pylist()) for batch in batches] == [
            ("__default__", ["c"]),
            ("ns", ["a", "b"]),
        ]
