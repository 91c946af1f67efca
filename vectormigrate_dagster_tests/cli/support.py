"""What services answer, services that answer it, and how tests of the command call it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vectormigrate_dagster.cli import cli
from vectormigrate_dagster.mapping.loss import Grade, LossRow
from vectormigrate_dagster.services.models import (
    BrokenFile,
    DemoDocument,
    DemoLive,
    DemoValidation,
    EndpointDocument,
    Estimate,
    ExportDocument,
    ExportedScope,
    ImportFilesDocument,
    ListedMigration,
    LookupDocument,
    LossCounts,
    MigrationList,
    PartitionCounts,
    PlanDocument,
    RecordPlace,
    RepairDocument,
    RollbackDocument,
    Status,
    TierResult,
    ValidationDocument,
    ValidationSummary,
)
from vectormigrate_dagster.services.models import Progress as Done

AT = datetime(2026, 2, 22, 10, 0, tzinfo=UTC)
SOURCE = EndpointDocument(type="qdrant", address="http://localhost:6333", collection="films")
TARGET = EndpointDocument(type="milvus", address="/data/milvus.db", collection="films")
STATUS = Status(
    migration_id="m",
    status="in_progress",
    phase="load",
    progress=Done.of(5432, 10000),
    started_at=AT,
    rate_per_second=1234.5,
    eta_seconds=200.0,
    partitions=PartitionCounts(total=8, done=3, failed=1, running=2),
    source=SOURCE,
    target=TARGET,
    loss=LossCounts(exact=3, lossy=1),
    validation=ValidationSummary(passed=True, tier="search", checked=1000, mismatched=0, at=AT),
    last_error="partition 'g0001-0002': qdrant said [bold]no",
)
COMPLETED = STATUS.model_copy(
    update={"status": "completed", "rate_per_second": None, "eta_seconds": None, "ended_at": AT + timedelta(seconds=90)}
)
PLAN = PlanDocument(
    migration_id="m",
    generation=2,
    digest="0123456789abcdef",
    source=SOURCE,
    target=TARGET,
    records=10000,
    partitions=1,
    mapping=(
        LossRow(code="id_kept", subject="id", source="u64", target="int64", grade=Grade.EXACT),
        LossRow(
            code="int_rounded",
            subject="field 'year'",
            source="int",
            target="float",
            grade=Grade.LOSSY,
            reason="37 of 10,000 values exceed 2^53",
            allowed=True,
        ),
    ),
    loss=LossCounts(exact=1, lossy=1),
    estimate=Estimate(seconds=200.0, requests=12),
)
VALIDATION = ValidationDocument(
    migration_id="m",
    passed=True,
    full=False,
    at=AT,
    seconds=1.5,
    tiers=(TierResult(name="records", passed=True, checked=1000, mismatched=0, summary="0 of 1,000: at most 0.30 %"),),
)
ROLLED_BACK = RollbackDocument(
    migration_id="m",
    generation=2,
    target=TARGET,
    already=False,
    undone=9000,
    left=0,
    dropped=True,
    remaining=0,
    seconds=1.5,
)
REPAIRED = RepairDocument(
    migration_id="m", passed=True, at=AT, seconds=1.5, listed=3, repaired=2, gone=1, generations=1
)
LOOKUP = LookupDocument(
    migration_id="m",
    record_id="17",
    source=RecordPlace(type="qdrant", collection="films", id="17", found=True, payload={"title": "[red]Ä\x1b"}),
    target=RecordPlace(type="milvus", collection="films", id="17", found=False),
)
LIST = MigrationList(
    migrations=(ListedMigration(migration_id="m", status="failed", created_at=AT),),
    total=12,
    broken=(BrokenFile(path="/m/x.yaml", error="/m/x.yaml:1: the file is empty"),),
)
EXPORT = ExportDocument(
    migration_id="m",
    to="/out",
    records=5,
    bytes=2**20,
    seconds=0.5,
    scopes=(ExportedScope(scope=None, folder="0000-records", files=1, records=5),),
)
IMPORT_FILES = ImportFilesDocument(
    migration_id="m",
    to="/out",
    records=5,
    refused=0,
    refused_file=None,
    bytes=2**20,
    seconds=0.5,
    scopes=(ExportedScope(scope=None, folder="_default", files=1, records=5),),
    steps=("copy what is in /out/import", "prove it: vectormigrate validate m --full"),
)
DEMO = DemoDocument(
    migration_id="demo",
    source="qdrant",
    target="milvus",
    records_source=2992,
    records_target=2992,
    validation=DemoValidation(passed=True, tiers={"count": True, "search": True}),
    seconds=2.0,
    records_per_second=1496.0,
    home="/home",
)
DEMO_LIVE = DEMO.model_copy(
    update={
        "migration_id": "demo-live",
        "live": DemoLive(
            writes=700, writes_after_cutover=60, cutover_pause_seconds=0.4, reverse_pause_seconds=0.5, lost=0
        ),
    }
)


ANSWERS = {
    "plan.plan": PLAN,
    "migrate.migrate": COMPLETED,
    "status.status": STATUS,
    "status.list_migrations": LIST,
    "control.stop": STATUS,
    "control.throttle": STATUS,
    "validate.validate": VALIDATION,
    "repair.repair": REPAIRED,
    "rollback.rollback": ROLLED_BACK,
    "lookup.lookup": LOOKUP,
    "export.export": EXPORT,
    "bulk_export.export_for_import": IMPORT_FILES,
    "demo.demo": DEMO,
    "demo_live.demo_live": DEMO_LIVE,
    "ui.ui": None,
}


class Services:
    """Stands for the services: notes calls, answers with documents or raises."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.answers: dict[str, Any] = dict(ANSWERS)
        modules: dict[str, ModuleType] = {}
        for name in self.answers:
            module, function = name.split(".")
            full = f"vectormigrate_dagster.services.{module}"
            stand_in = modules.setdefault(full, ModuleType(full))
            setattr(stand_in, function, self._function(name))
            monkeypatch.setitem(sys.modules, full, stand_in)

    def _function(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            answer = self.answers[name]
            if isinstance(answer, BaseException):
                raise answer
            return answer(*args, **kwargs) if callable(answer) else answer

        return call

    @property
    def context(self) -> Any:
        return self.calls[-1][1][0]


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cli, arguments, input=stdin)


VERBS_WITH_JSON = [
    ("plan", "m"),
    ("migrate", "m"),
    ("status", "m"),
    ("status",),
    ("stop", "m"),
    ("throttle", "m", "--rate", "5"),
    ("validate", "m"),
    ("repair", "m"),
    ("rollback", "m", "--force"),
    ("lookup", "m", "17"),
    ("export", "m", "--to", "out"),
    ("export", "m", "--to", "out", "--for-import"),
    ("demo",),
    ("demo", "--live"),
]
