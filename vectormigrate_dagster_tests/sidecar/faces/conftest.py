"""What several tests of the faces use."""

from __future__ import annotations

from vectormigrate_dagster_tests.sidecar.faces.migrated import migrated, served

__all__ = ["migrated", "served"]
