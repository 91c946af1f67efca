"""Texts of migration files, and what loading one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.migration_file import load_migration

SOURCE = "source:\n  type: qdrant\n  url: http://localhost:6333\n  collection: a\n"
TARGET = "target:\n  type: milvus\n  path: ../data/milvus.db\n  collection: b\n"
GOOD = SOURCE + TARGET


def load(tmp_path: Path, text: str | bytes, name: str = "m.yaml") -> Migration:
    file = tmp_path / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_migration(file)


def refusal(tmp_path: Path, text: str | bytes, name: str = "m.yaml") -> str:
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, text, name)
    return str(error.value)
