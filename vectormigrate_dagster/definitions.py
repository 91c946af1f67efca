"""What Dagster loads: every migration file of the folder, assembled."""

from __future__ import annotations

import warnings

import dagster as dg

# `owners` of sensors is marked as beta by Dagster itself, whether one uses it or not.
warnings.filterwarnings("ignore", category=dg.BetaWarning)

from vectormigrate_dagster.config import Migration  # noqa: E402
from vectormigrate_dagster.defs.assets import assets_of, broken_asset, checks_of  # noqa: E402
from vectormigrate_dagster.defs.automation import continue_sensor, schedule_of  # noqa: E402
from vectormigrate_dagster.defs.catch_up_job import catch_up_job  # noqa: E402
from vectormigrate_dagster.defs.catch_up_sensor import catch_up_sensor  # noqa: E402
from vectormigrate_dagster.defs.cutting_over import cutover_job  # noqa: E402
from vectormigrate_dagster.defs.jobs import load_job, plan_job, validate_job  # noqa: E402
from vectormigrate_dagster.defs.repairing import repair_job  # noqa: E402
from vectormigrate_dagster.defs.rolling_back import rollback_job  # noqa: E402
from vectormigrate_dagster.migration_file import load_folder, migrations_folder  # noqa: E402


def definitions_of(migration: Migration) -> dg.Definitions:
    """Everything that one migration file becomes."""
    load, validate, rollback = load_job(migration), validate_job(migration), rollback_job(migration)
    catch_up, cutover = catch_up_job(migration), cutover_job(migration)
    schedule = schedule_of(migration, load, validate, rollback)
    return dg.Definitions(
        assets=assets_of(migration),
        asset_checks=checks_of(migration),
        jobs=[load, plan_job(migration), validate, repair_job(migration), rollback, catch_up, cutover],
        sensors=[continue_sensor(migration, load), catch_up_sensor(migration, catch_up)],
        schedules=[] if schedule is None else [schedule],
    )


def load() -> dg.Definitions:
    """All migrations of the folder; a file that cannot be used becomes a broken asset."""
    migrations, broken = load_folder(migrations_folder(None))
    return dg.Definitions.merge(
        dg.Definitions(assets=[broken_asset(file.path.stem, str(file.error)) for file in broken]),
        *(definitions_of(migration) for migration in migrations),
    )


defs = load()
