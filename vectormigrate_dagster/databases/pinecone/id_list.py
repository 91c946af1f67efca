"""A file with the ids to read, for indexes that cannot list theirs (pod indexes).

Parquet: a column `id`, and `namespace` where there are several. Text: one id a line, and where there are several
namespaces a tab and the namespace behind it.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vectormigrate_dagster.databases.pinecone.capabilities import DEFAULT_NAMESPACE
from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.model import Id

_PAGE = 1000


class IdList:
    """The ids of a file by namespace, sorted, each once.

    Args:
        path: the file; its name ends in `.parquet` if it is one.

    Raises:
        ConfigurationError: it cannot be read, or holds what is no id.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            found = _parquet(path) if path.suffix == ".parquet" else _text(path)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigurationError(f"'{path}' (id_list) cannot be read: {error}") from error
        self._ids = {namespace: self._sorted(ids) for namespace, ids in found.items()}

    @property
    def namespaces(self) -> list[str]:
        """The namespaces that it names, sorted."""
        return sorted(self._ids)

    def count(self, namespace: str) -> int:
        """How many ids it has of a namespace."""
        return len(self._of(namespace))

    def between(self, namespace: str, after: str | None = None, last: str | None = None) -> Iterator[list[str]]:
        """Yield the ids > `after` and <= `last` in pages, in ascending order."""
        ids = self._of(namespace)
        start = 0 if after is None else bisect.bisect_right(range(len(ids)), after, key=lambda row: ids[row].as_py())
        stop = len(ids)
        if last is not None:
            stop = bisect.bisect_right(range(len(ids)), last, key=lambda row: ids[row].as_py())
        for low in range(start, stop, _PAGE):
            page: Any = ids.slice(low, min(_PAGE, stop - low)).to_pylist()
            yield page

    def quantiles(self, namespace: str, parts: int) -> list[Id]:
        """The last ids of all but the last of `parts` equal parts."""
        ids = self._of(namespace)
        return [ids[len(ids) * part // parts - 1].as_py() for part in range(1, parts)]

    def _of(self, namespace: str) -> pa.Array[Any]:
        return self._ids.get(namespace, pa.array([], type=pa.large_string()))

    def _sorted(self, ids: pa.Array[Any]) -> pa.Array[Any]:
        if ids.null_count or not pc.all(pc.match_substring_regex(ids, r"^[\x01-\x7f]{1,512}\z")).as_py():
            raise ConfigurationError(
                f"'{self._path}' (id_list) holds an id that Pinecone cannot have; ids are 1 to 512 ASCII characters"
            )
        unique = pc.unique(ids)
        return unique.take(pc.sort_indices(unique))


def _parquet(path: Path) -> dict[str, pa.Array[Any]]:
    names = pq.read_schema(path).names
    if "id" not in names:
        raise ValueError("it has no column 'id'")
    table = pq.read_table(path, columns=[name for name in ("id", "namespace") if name in names])
    ids: Any = table["id"].cast(pa.large_string()).combine_chunks()
    if "namespace" not in names:
        return {DEFAULT_NAMESPACE: ids}
    given: Any = table["namespace"].cast(pa.large_string()).combine_chunks().fill_null("")
    named: Any = pc.replace_substring_regex(given, pattern="^$", replacement=DEFAULT_NAMESPACE)
    return {name: ids.filter(pc.equal(named, name)) for name in pc.unique(named).to_pylist()}


def _text(path: Path) -> dict[str, pa.Array[Any]]:
    found: dict[str, list[str]] = defaultdict(list)
    with path.open(encoding="utf-8-sig", newline="\n") as lines:
        for line in lines:
            value, _, namespace = line.removesuffix("\n").removesuffix("\r").partition("\t")
            if value:
                found[namespace or DEFAULT_NAMESPACE].append(value)
    return {namespace: pa.array(ids, type=pa.large_string()) for namespace, ids in found.items()}
