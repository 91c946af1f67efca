"""Queries that the user gives in a file: `.npy`, `.parquet` or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.validation.search.questions import LONGEST_TEXT, condition_value
from vectormigrate_dagster.validation.search.settings import GivenQueries

MOST_QUERIES = 10_000
"""The truth of each is held in memory."""

_VECTORS = ("vector", "embedding")
_NAMES = ("query", "name", "id")
_FILTER = "filter"
_POSSIBLE = (
    f"give a boolean, an integer up to 2^53, or a text of 1 to {LONGEST_TEXT} characters without spaces around it"
)


def read_queries(path: Path) -> GivenQueries:
    """Read queries from a file.

    `.npy` holds an array (q, d) of numbers. `.parquet` has a column of lists of numbers, called `vector` or `embedding`
    or the only one; `query`, `name` or `id` names each query; `filter` holds JSON objects or structs. `.jsonl` has an
    object with the same keys in each line, such as `{"vector": [0.1, 0.2], "query": "cats", "filter": {"year": 1999}}`.

    Raises:
        ConfigurationError: the file cannot be read, or holds something else.
    """
    if not path.is_file():
        raise ConfigurationError(f"there is no file '{path}' with queries")
    readers = {".npy": _from_numpy, ".parquet": _from_parquet, ".jsonl": _from_lines, ".ndjson": _from_lines}
    if path.suffix not in readers:
        raise ConfigurationError(f"'{path}' is no file of queries; its name must end in {', '.join(readers)}")
    try:
        return _checked(readers[path.suffix](path))
    except (OSError, EOFError, ValueError, pa.ArrowException) as error:
        raise ConfigurationError(f"'{path}' cannot be read as queries: {error}") from error


def _checked(given: GivenQueries) -> GivenQueries:
    if not 1 <= len(given.vectors) <= MOST_QUERIES:
        raise ValueError(f"it holds {len(given.vectors):,} queries; give 1 to {MOST_QUERIES:,}")
    if not np.isfinite(given.vectors).all():
        row = int(np.flatnonzero(~np.isfinite(given.vectors).all(axis=1))[0])
        raise ValueError(f"'{given.names[row]}' has a component that is NaN or infinite")
    if not given.vectors.any(axis=1).all():
        row = int(np.flatnonzero(~given.vectors.any(axis=1))[0])
        raise ValueError(f"'{given.names[row]}' has only zeros: it points nowhere, so nothing is near to it")
    for name, conditions in zip(given.names, given.filters, strict=True):
        for key, value in conditions.items():
            possible = isinstance(value, bool | int | str) and condition_value(value) is not None
            _require(possible, f"the filter of '{name}' demands {value!r} of '{key}'; {_POSSIBLE}")
    return given


def _require(fulfilled: bool, message: str) -> None:
    if not fulfilled:
        raise ValueError(message)


def _from_numpy(path: Path) -> GivenQueries:
    array = np.load(path, allow_pickle=False, mmap_mode="r")
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise ValueError(f"the array is {array.dtype} {array.shape}; numbers (queries, components) are needed")
    if len(array) > MOST_QUERIES:
        raise ValueError(f"it holds {len(array):,} queries; give at most {MOST_QUERIES:,}")
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused by name
        return GivenQueries.of(np.array(array, dtype=np.float32))


def _from_parquet(path: Path) -> GivenQueries:
    file = pq.ParquetFile(path)
    if file.metadata.num_rows > MOST_QUERIES:
        raise ValueError(f"it holds {file.metadata.num_rows:,} queries; give at most {MOST_QUERIES:,}")
    table = file.read()
    lists = [field.name for field in table.schema if _is_vector(field.type)]
    chosen = next((name for name in _VECTORS if name in lists), lists[0] if len(lists) == 1 else None)
    if chosen is None:
        raise ValueError(
            f"it has no column of vectors called {' or '.join(_VECTORS)}, but {', '.join(lists) or 'none'}"
        )
    named = next((name for name in _NAMES if name in table.column_names), None)
    names = [None] * len(table) if named is None else table.column(named).to_pylist()
    filters = table.column(_FILTER).to_pylist() if _FILTER in table.column_names else [None] * len(table)
    return _given(table.column(chosen).to_pylist(), names, [_condition(one) for one in filters])


def _is_vector(type: Any) -> bool:
    lists = pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_fixed_size_list(type)
    return bool(lists) and bool(pa.types.is_floating(type.value_type) or pa.types.is_integer(type.value_type))


def _from_lines(path: Path) -> GivenQueries:
    rows = list(_objects(path))
    named = [next((row[key] for key in _NAMES if row.get(key) is not None), None) for row in rows]
    vectors = [next((row[key] for key in _VECTORS if key in row), None) for row in rows]
    return _given(vectors, named, [_condition(row.get(_FILTER)) for row in rows])


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    found = 0
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            row = json.loads(line)
            _require(isinstance(row, dict), f"line {number} holds no object")
            found += 1
            if found > MOST_QUERIES:
                raise ValueError(f"it holds more than {MOST_QUERIES:,} queries")
            yield row


def _condition(found: Any) -> Mapping[str, Any]:
    """A filter as an object; keys without a value demand nothing."""
    read = json.loads(found) if isinstance(found, str) and found else found
    if read is None or read == "":
        return {}
    _require(isinstance(read, dict), f"a filter is an object of fields and values, found {read!r}")
    return {key: value for key, value in read.items() if value is not None}


def _given(vectors: list[Any], names: list[Any], filters: list[Mapping[str, Any]]) -> GivenQueries:
    called = tuple(f"query {i + 1}" if name is None else str(name) for i, name in enumerate(names))
    for name, vector in zip(called, vectors, strict=True):
        if not isinstance(vector, list) or len(vector) != len(vectors[0]) or not vector:
            raise ValueError(f"'{name}' has no vector, or one of another length than the first")
    return GivenQueries(vectors=_matrix(vectors), names=called, filters=tuple(filters))


def _matrix(vectors: list[Any]) -> npt.NDArray[np.float32]:
    for vector in vectors:
        wrong = next((value for value in vector if type(value) not in (int, float)), 0)
        _require(wrong == 0, f"a vector holds {wrong!r}, which is no number")
    with np.errstate(over="ignore"):
        return np.array(vectors, dtype=np.float32).reshape(len(vectors), -1 if vectors else 0)
