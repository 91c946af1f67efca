"""A migration in the middle of its work, as its states tell; nothing was moved."""

from __future__ import annotations

from pathlib import Path

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.home import open_home
from vectormigrate_dagster.defs.state import VALIDATION, PartitionState, ValidationState
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.plan import plan
from vectormigrate_dagster_tests.harness import ID, Workplace

ACKNOWLEDGED, REFUSED, VANISHED = 40, 3, 2


def halfway(folder: Path, source: Endpoint) -> Context:
    """The first partition is done, the second has failed, the others wait; what there is was validated and differs."""
    place = Workplace.make(folder, source, "milvus", transfer={"partition_records": 60})
    context = Context(place.migrations, place.home)
    plan(context, ID)
    with open_home(place.home) as instance:
        log = MigrationLog(instance, ID)
        planned = log.require_summary()
        done, failed = planned.keys[:2]
        moved = {"plan": planned.digest, "run_id": "run", "acknowledged": ACKNOWLEDGED, "batches": 4}
        log.record(done, PartitionState(**moved, state="done", refused=REFUSED, vanished=VANISHED))
        log.record(failed, PartitionState(**moved, state="failed", error="the database said no"))
        validation = ValidationState(plan=planned.digest, passed=False, tier="sample", checked=80, mismatched=7)
        log.record(VALIDATION, validation)
    return context
