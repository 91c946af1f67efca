"""Checks that the lines of the README which an application copies do what it says, before and after the switch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from vectormigrate_dagster.live.journal import Journal, JournalDatabase
from vectormigrate_dagster.mapping.ids import IdMapping, IdRule
from vectormigrate_dagster.model import IdKind
from vectormigrate_dagster_tests.live.journals import MIGRATION, carried_over, keys, switched

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "sqlite:////srv/dagster/journal.db"


@dataclass
class Client:
    """Notes what it is asked for."""

    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)

    def upsert(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append(("upsert", args, kwargs))

    def delete(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append(("delete", args, kwargs))


def test_the_lines_that_an_application_copies_work(tmp_path: Path) -> None:
    block = re.search(
        r"```python\n(from vectormigrate_dagster\.live\.dual_writer.*?)```", README.read_text(), re.DOTALL
    )
    assert block is not None
    lines = [line for line in block[1].splitlines() if line]
    assert len(lines) <= 12
    assert ADDRESS in block[1]
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    program = compile(block[1].replace(ADDRESS, url), str(README), "exec")
    database = JournalDatabase(url)
    mapping = IdMapping(rules={IdKind.U64: IdRule.COPY}, target_kinds=(IdKind.I64,)).model_dump(mode="json")
    journal = Journal.register(database, MIGRATION, id_kinds=[IdKind.U64], id_mapping=mapping, by="test")

    def run() -> tuple[Client, Client, object]:
        point = SimpleNamespace(id=5, vector=[0.0, 1.0])
        names: dict[str, Any] = {"qdrant": Client(), "milvus": Client(), "point": point, "query": None}
        names |= {"search_qdrant": lambda query: "qdrant", "search_milvus": lambda query: "milvus"}
        exec(program, names)  # it is ours
        return names["qdrant"], names["milvus"], names["found"]

    qdrant, milvus, found = run()
    assert [call[0] for call in qdrant.calls] == ["upsert", "delete"]
    assert (milvus.calls, found) == ([], "qdrant")
    assert carried_over(journal) == keys(5, 7)

    switched(journal)
    qdrant, milvus, found = run()
    assert (qdrant.calls, found) == ([], "milvus")
    assert milvus.calls == [
        ("upsert", ("packages", [{"id": 5, "vector": [0.0, 1.0]}]), {}),
        ("delete", ("packages",), {"ids": [7]}),
    ]
    assert carried_over(journal) == keys(5, 7)
    database.close()
