"""Contract of files of queries: three forms that say the same, and refusals that name what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.validation.search.query_file import MOST_QUERIES, read_queries

VECTORS = np.array([[1, 2, 3], [0.5, -1, 0]], dtype=np.float32)
FILTERS = [{"year": 1999, "open": True}, None]


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    return path


def test_an_array(tmp_path: Path) -> None:
    path = tmp_path / "q.npy"
    np.save(path, VECTORS.astype(np.float64))
    given = read_queries(path)
    assert (given.vectors.dtype, given.vectors.tolist()) == (np.float32, VECTORS.tolist())
    assert (given.names, given.filters) == (("query 1", "query 2"), ({}, {}))


@pytest.mark.parametrize("vector", ["vector", "embedding"])
@pytest.mark.parametrize("as_text", [False, True])
def test_a_table(tmp_path: Path, vector: str, as_text: bool) -> None:
    filters = [None if one is None else json.dumps(one) for one in FILTERS] if as_text else FILTERS
    table = pa.table({"query": ["cats", "dogs"], vector: VECTORS.tolist(), "filter": filters, "other": [[1.0], [2.0]]})
    pq.write_table(table, tmp_path / "q.parquet")
    given = read_queries(tmp_path / "q.parquet")
    assert given.vectors.tolist() == VECTORS.tolist()
    assert given.names == ("cats", "dogs")
    assert [dict(one) for one in given.filters] == [FILTERS[0], {}]


def test_lines(tmp_path: Path) -> None:
    rows = [{"vector": VECTORS[0].tolist(), "query": "cats", "filter": FILTERS[0]}, {"embedding": VECTORS[1].tolist()}]
    given = read_queries(lines(tmp_path / "q.jsonl", *rows))
    assert given.vectors.tolist() == VECTORS.tolist()
    assert (given.names, given.filters) == (("cats", "query 2"), (FILTERS[0], {}))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "0 queries"),
        ([[1, 2]], "line 1 holds no object"),
        ([{"vector": [1, 2]}, {"vector": [1]}], "'query 2' has no vector, or one of another length"),
        ([{"query": "cats"}], "'cats' has no vector"),
        ([{"vector": []}], "'query 1' has no vector"),
        ([{"vector": [1, None]}], "NaN|no number"),
        ([{"vector": [1, "x"]}], "x"),
        ([{"vector": [1e999]}], "NaN or infinite"),
        ([{"vector": [1], "filter": {"a": [1]}}], r"demands \[1\] of 'a'"),
        ([{"vector": [1], "filter": [1]}], "a filter is an object"),
        ([{"vector": [1], "filter": {"a": " x"}}], r"demands ' x' of 'a'; give .* without spaces around it"),
        ([{"vector": [1], "filter": {"a": 2**60}}], r"an integer up to 2\^53"),
        ([{"vector": [[1, 2]]}], "no number"),
        ([{"vector": ["1"]}], "'1', which is no number"),
        ([{"vector": [1]}, {"vector": [0]}], "'query 2' has only zeros"),
        ([{"vector": [1]}] * (MOST_QUERIES + 1), "more than 10,000"),
    ],
)
def test_what_is_no_query_is_refused(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_queries(lines(tmp_path / "q.jsonl", *rows))


def test_files_that_are_no_queries_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no file"):
        read_queries(tmp_path / "q.npy")
    for name, content, message in (
        ("q.txt", b"1 2 3", "must end in .npy, .parquet, .jsonl"),
        ("q.npy", b"nonsense", "cannot be read as queries"),
        ("empty.npy", b"", "cannot be read as queries"),
        ("q.parquet", b"nonsense", "cannot be read as queries"),
        ("q.jsonl", b"\xff\xfe", "cannot be read as queries"),
        ("r.jsonl", b"{", "cannot be read as queries"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigurationError, match=message):
            read_queries(tmp_path / name)
    np.save(tmp_path / "flat.npy", np.ones(3))
    with pytest.raises(ConfigurationError, match=r"float64 \(3,\)"):
        read_queries(tmp_path / "flat.npy")
    np.save(tmp_path / "large.npy", np.array([[1e300]]))
    with pytest.raises(ConfigurationError, match="NaN or infinite"):
        read_queries(tmp_path / "large.npy")
    np.save(tmp_path / "object.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_queries(tmp_path / "object.npy")
    pq.write_table(pa.table({"a": [[1.0]], "b": [[2.0]]}), tmp_path / "two.parquet")
    with pytest.raises(ConfigurationError, match="no column of vectors called vector or embedding"):
        read_queries(tmp_path / "two.parquet")
