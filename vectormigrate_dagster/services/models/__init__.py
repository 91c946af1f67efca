"""The documents that verbs answer with: what `--json` prints and what the sidecar sends.

Numbers are numbers, times are RFC 3339 in UTC, unknown values are null; an object inside a document is always there.
No document holds a secret.
"""

from __future__ import annotations

from vectormigrate_dagster.services.models.common import EndpointDocument, LossCounts, Utc
from vectormigrate_dagster.services.models.results import (
    DemoDocument,
    DemoValidation,
    Estimate,
    ExportDocument,
    ExportedScope,
    ImportFilesDocument,
    LookupDocument,
    PlanDocument,
    RecordPlace,
    RepairDocument,
    RollbackDocument,
    TierResult,
    UnrepairedRecord,
    ValidationDocument,
)
from vectormigrate_dagster.services.models.standing import (
    BrokenFile,
    ListedMigration,
    ListProgress,
    LiveStatus,
    MigrationList,
    MigrationStatus,
    PartitionCounts,
    Progress,
    Status,
    ValidationSummary,
)

__all__ = [
    "BrokenFile",
    "DemoDocument",
    "DemoValidation",
    "EndpointDocument",
    "Estimate",
    "ExportDocument",
    "ExportedScope",
    "ImportFilesDocument",
    "ListProgress",
    "ListedMigration",
    "LiveStatus",
    "LookupDocument",
    "LossCounts",
    "MigrationList",
    "MigrationStatus",
    "PartitionCounts",
    "PlanDocument",
    "Progress",
    "RecordPlace",
    "RepairDocument",
    "RollbackDocument",
    "Status",
    "TierResult",
    "UnrepairedRecord",
    "Utc",
    "ValidationDocument",
    "ValidationSummary",
]
