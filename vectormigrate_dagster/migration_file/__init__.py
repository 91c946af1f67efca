"""Migration files on disk: found, read with line numbers in every error, and written."""

from vectormigrate_dagster.migration_file.loading import (
    BrokenMigration,
    find_migration,
    job_name,
    load_folder,
    load_migration,
    migrations_folder,
)
from vectormigrate_dagster.migration_file.writing import Side, key_variable, migration_from_flags, write_template

__all__ = [
    "BrokenMigration",
    "Side",
    "find_migration",
    "job_name",
    "key_variable",
    "load_folder",
    "load_migration",
    "migration_from_flags",
    "migrations_folder",
    "write_template",
]
