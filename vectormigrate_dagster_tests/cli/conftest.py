"""Services that only note what they are asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from vectormigrate_dagster_tests.cli.support import Services


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Services:
    monkeypatch.chdir(tmp_path)
    for variable in ("DAGSTER_HOME", "VECTORMIGRATE_MIGRATIONS"):
        monkeypatch.delenv(variable, raising=False)
    return Services(monkeypatch)
