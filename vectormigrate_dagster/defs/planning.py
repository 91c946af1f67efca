"""Make, store and renew the plan of a migration."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal

import dagster as dg

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.coordinating import require_nobody_coordinates
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.journal import (
    is_replaced,
    known_journal,
    new_generation,
    require_not_switched,
    resume_generation,
)
from vectormigrate_dagster.defs.lease import Lease, held
from vectormigrate_dagster.defs.state import PlanSummary, TargetState, target_key
from vectormigrate_dagster.defs.throttling import throttle_of
from vectormigrate_dagster.defs.waiting import Tell, tell_nobody, wait_until_quiet
from vectormigrate_dagster.errors import LeaseHeld, PlanOutdated
from vectormigrate_dagster.mapping.plan import Plan, config_digest, make_plan
from vectormigrate_dagster.transfer.patient import PatientSource
from vectormigrate_dagster.transfer.rate import RateLimiter

_KEYS_PER_CALL = 5000
"""More keys than this in one statement once broke SQLite (dagster issue 16260)."""


_COLUMNS = ("what", "grade", "source", "target", "why")

_KEY = re.compile(r"g(\d+)-")
_WAIT_SECONDS = 30.0
"""As long as for a busy folder: several first users at once get the plan of the first."""


def plan_migration(
    instance: dg.DagsterInstance,
    migration: Migration,
    source: Endpoint,
    target: Endpoint,
    *,
    profile: Literal["sample", "full"] = "sample",
    replan: bool = False,
    adopt: bool = False,
    tell: Tell = tell_nobody,
) -> Plan:
    """Return the stored plan, or make and store one; write to neither database.

    Args:
        instance: Dagster's storage.
        migration: the migration file.
        source: where to read.
        target: where the plan is for.
        profile: look at a sample of the records or at all of them.
        replan: start a new generation although there is a plan that was not rolled back.
        adopt: keep what an earlier generation wrote into the target.
        tell: is told what is waited for, if anything is.

    Raises:
        PlanOutdated: there is a plan, and it may not be replaced (yet).
        PlanRefused: something cannot be moved, or would be changed and is not allowed to.
        LeaseHeld: another process plans or loads.
        Stopped: it was asked to end while it waited; there is no new plan.
    """
    log = MigrationLog(instance, migration.id)
    with held(Lease(instance, migration.id, "plan"), _WAIT_SECONDS), ExitStack() as leases:
        log.refresh()
        stored = log.plan()
        anew = stored is None or is_rolled_back(log, stored)
        if stored is not None and not anew:
            _require_not_taken_back(log, migration, stored, replan=replan)
        if stored is not None and not anew and not replan:
            require_current(stored, migration)
            resume_generation(instance, migration, stored)
            sync_keys(instance, migration.id, stored)
            return stored
        if stored is not None:
            require_not_switched(instance, migration)
        generation = _next_generation(instance, migration.id, stored, replan=replan)
        inherited = None
        if stored is not None and not anew:
            _hold_all(log, stored, leases)
            require_nobody_coordinates(log)
            _require_not_taken_back(log, migration, stored, replan=replan)  # since before we held them
            inherited = _inherited_target(log, stored, adopt=adopt)
            _wait_for_killed_loads(log, migration, tell)
        # Without a rate: a plan looks at a sample, and should not take minutes for it.
        throttle = replace(throttle_of(log, migration.transfer), rate=RateLimiter())
        sleep = throttle.interrupt.sleep
        # Of the target, too, only a view that cannot write.
        with databases.open_source(source, sleep=sleep) as src, databases.open_source(target, sleep=sleep) as dst:
            for side in (src, dst):
                side.ping()  # at once, before patience: an address may be wrong
            plan = make_plan(
                PatientSource(src, throttle),
                PatientSource(dst, throttle),
                migration,
                generation=generation,
                profile=profile,
                adopt=inherited is not None,
            )
        plan.loss.check()
        told = " ".join(filter(None, (summary(plan), conflicts(plan, migration))))
        with new_generation(instance, migration, plan, before=stored):
            if inherited is not None:
                log.record(target_key(generation), inherited.model_copy(update={"plan": plan.digest}))
            log.record_plan(plan, description=told, metadata=tables(plan))
        sync_keys(instance, migration.id, plan)
        return plan


def require_current(plan: Plan, migration: Migration) -> None:
    """Refuse to work by a plan that was made from another version of the migration file.

    Raises:
        PlanOutdated: the file was changed in a way that changes what is written.
    """
    if plan.config_digest != config_digest(migration):
        raise PlanOutdated(
            f"migration file '{migration.id}' was changed since its plan was made; undo the change, or start over "
            f"with 'vectormigrate plan {migration.id} --replan'"
        )


def require_not_rolled_back(log: MigrationLog, plan: Plan | PlanSummary) -> None:
    """Refuse to write by a plan whose records are being taken back, or were.

    Raises:
        PlanOutdated: they are.
    """
    state = log.rollback(plan)
    if state is None:
        return
    if state.state == "begun":
        raise PlanOutdated(
            f"generation {plan.generation} of migration '{log.migration_id}' is being rolled back; finish that first "
            f"with 'vectormigrate rollback {log.migration_id}'"
        )
    raise PlanOutdated(
        f"generation {plan.generation} of migration '{log.migration_id}' was rolled back; begin anew with "
        f"'vectormigrate plan {log.migration_id}'"
    )


def is_rolled_back(log: MigrationLog, plan: Plan | PlanSummary) -> bool:
    """Whether everything that was written by a plan was taken back, so that the next plan begins anew."""
    state = log.rollback(plan)
    return state is not None and state.state == "finished"


def sync_keys(instance: dg.DagsterInstance, migration_id: str, plan: Plan) -> None:
    """Make the partition keys of the UI those of the plan; a killed plan may have left them behind."""
    partitions = names.partitions_name(migration_id)
    have = set(instance.get_dynamic_partitions(partitions))
    want = [planned.key for planned in plan.splits]
    for key in have.difference(want):
        instance.delete_dynamic_partition(partitions, key)
    missing = [key for key in want if key not in have]
    for start in range(0, len(missing), _KEYS_PER_CALL):
        instance.add_dynamic_partitions(partitions, missing[start : start + _KEYS_PER_CALL])


def summary(plan: Plan) -> str:
    """One paragraph that says what the plan will do."""
    counts = plan.loss.counts()
    grades = ", ".join(f"{count} {grade}" for grade, count in counts.items())
    return (
        f"Generation {plan.generation}: {plan.source_records:,} records of {plan.source} to {plan.target} "
        f"in {len(plan.splits)} partitions. Schema changes: {grades}."
    )


def conflicts(plan: Plan, migration: Migration) -> str | None:
    """What becomes of records that the target held when the plan was made; None if it held none."""
    if not plan.target_records:
        return None
    held = f"The target holds {plan.target_records:,} records."
    if migration.transfer.on_conflict == "overwrite":
        return (
            f"{held} Those under ids that are moved are overwritten; each is kept in the home before, and "
            "'rollback' writes it back."
        )
    return f"{held} Those under ids that are moved are left alone, and what would have come there is skipped."


def tables(plan: Plan) -> dict[str, Any]:
    """The plan as metadata that the UI shows well."""
    loss = [
        dg.TableRecord(
            dict(zip(_COLUMNS, (row.subject, row.grade.value, row.source, row.target, row.reason), strict=True))
        )
        for row in plan.loss.rows
    ]
    schema = dg.TableSchema(columns=[dg.TableColumn(name, "string") for name in _COLUMNS])
    return {
        "mapping": dg.MetadataValue.table(loss, schema=schema),
        "generation": plan.generation,
        "partitions": len(plan.splits),
        "source_records": plan.source_records,
        **{f"changes_{grade}": count for grade, count in plan.loss.counts().items()},
    }


def _next_generation(instance: dg.DagsterInstance, migration_id: str, stored: Plan | None, *, replan: bool) -> int:
    """The number of a new plan; keys are never reused, even if the plan that drew them is gone.

    Raises:
        PlanOutdated: there are keys without a plan, and nobody asked for a new one.
    """
    keys = instance.get_dynamic_partitions(names.partitions_name(migration_id))
    if stored is None and keys and not replan:
        raise PlanOutdated(
            f"migration '{migration_id}' has partitions from '{keys[0]}' to '{keys[-1]}' but no plan: asset "
            f"'{names.plan_asset(migration_id).to_user_string()}' was wiped; start over with "
            f"'vectormigrate plan {migration_id} --replan'"
        )
    used = [int(match.group(1)) for key in keys if (match := _KEY.match(key))]
    return 1 + max([0 if stored is None else stored.generation, *used])


def _require_not_taken_back(log: MigrationLog, migration: Migration, stored: Plan, *, replan: bool) -> None:
    """Refuse a plan that is being taken back; one that another home has replaced never is to its end.

    Raises:
        PlanOutdated: it is.
    """
    if not (replan and is_replaced(log.instance, migration, stored)):
        require_not_rolled_back(log, stored)


def _hold_all(log: MigrationLog, stored: Plan, leases: ExitStack) -> None:
    """Hold the lease of every partition of a plan, so that nobody loads by it while it is replaced.

    Raises:
        PlanOutdated: one is being loaded.
    """
    for planned in stored.splits:
        lease = Lease(log.instance, log.migration_id, planned.key)
        try:
            leases.enter_context(held(lease, 0))
        except LeaseHeld as error:
            raise PlanOutdated(
                f"partition '{planned.key}' of migration '{log.migration_id}' is being loaded; "
                f"end that first with 'vectormigrate stop {log.migration_id}'"
            ) from error
    log.refresh()


def _wait_for_killed_loads(log: MigrationLog, migration: Migration, tell: Tell) -> None:
    """Wait until no page of a load that was killed can arrive: it would stay, though the new plan maps it anew.

    Not for one in another home, which goes on until the journal tells it of the new plan.
    """
    if migration.target.embedded:
        return  # what it was sent died with the process that had opened it
    with known_journal(log.instance, migration) as journal:
        if journal is None:
            return
        end = time.monotonic() + journal.loading_seconds()
        wait_until_quiet(log, lambda: min(journal.loading_seconds(), end - time.monotonic()), tell=tell)


def _inherited_target(log: MigrationLog, stored: Plan, *, adopt: bool) -> TargetState | None:
    """Whose the target is, as the generation before knew it.

    Raises:
        PlanOutdated: there may be records in the target that would be orphaned.
    """
    states = log.partitions(stored)
    # What a run that died wrote after its last state event is in the target too.
    if not adopt and any(state.acknowledged or state.state in ("loading", "lost") for state in states.values()):
        written = sum(state.acknowledged for state in states.values())
        raise PlanOutdated(
            f"{written:,} records or more of generation {stored.generation} are in the target; add --adopt to keep "
            f"them under the new plan, or take them back first with 'vectormigrate rollback {log.migration_id}'"
        )
    return log.target(stored)
