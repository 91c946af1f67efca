"""The documents that verbs answer with: what `--json` prints and what the sidecar sends.

Numbers are numbers, times are RFC 3339 in UTC, unknown values are null; an object inside a document is always there.
No document holds a secret.
"""

from __future__ import annotations

from vectormigrate_dagster.services.models.actions import Action, ActionDocument, Confirmation
from vectormigrate_dagster.services.models.changes import (
    CatchUpDocument,
    ChangesDocument,
    PollDocument,
    UnsettledRecord,
)
from vectormigrate_dagster.services.models.common import EndpointDocument, LossCounts, Utc
from vectormigrate_dagster.services.models.live import CutoverDocument, CutoverStep
from vectormigrate_dagster.services.models.results import (
    DemoDocument,
    DemoLive,
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
    "Action",
    "ActionDocument",
    "BrokenFile",
    "CatchUpDocument",
    "ChangesDocument",
    "Confirmation",
    "CutoverDocument",
    "CutoverStep",
    "DemoDocument",
    "DemoLive",
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
    "PollDocument",
    "Progress",
    "RecordPlace",
    "RepairDocument",
    "RollbackDocument",
    "Status",
    "TierResult",
    "UnrepairedRecord",
    "UnsettledRecord",
    "Utc",
    "ValidationDocument",
    "ValidationSummary",
]
