"""Find migration files and read them; every error names file, line and key, and all errors come at once."""

from __future__ import annotations

import difflib
import keyword
import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from vectormigrate_dagster.config import ID_PATTERN, Migration
from vectormigrate_dagster.errors import ConfigurationError, UnknownMigration
from vectormigrate_dagster.migration_file.document import Problem, read_document, read_text
from vectormigrate_dagster.migration_file.problems import problems_of
from vectormigrate_dagster.migration_file.secrets import find_secrets

__all__ = [
    "BrokenMigration",
    "check_id",
    "find_migration",
    "job_name",
    "load_folder",
    "load_migration",
    "migrations_folder",
    "parse_migration",
]

FOLDER_VARIABLE = "VECTORMIGRATE_MIGRATIONS"
SUFFIX = ".yaml"
_JOB_SUFFIXES = (
    *("", "_plan", "_validate", "_repair", "_rollback", "_continue", "_splits", "_missing", "_verify", "_checks"),
    *("_catch_up", "_changes", "_cutover"),
)
# Dagster refuses these and Python's keywords as names (dagster/_core/definitions/utils.py, DISALLOWED_NAMES).
_DAGSTER_WORDS = {
    *("arg_dict", "bool", "conf", "config", "context", "dict", "float", "input", "input_arg_dict", "int", "meta"),
    *("output", "output_arg_dict", "str", "type"),
}


@dataclass(frozen=True)
class BrokenMigration:
    """A file in the migrations folder that is no migration, and why."""

    path: Path
    error: ConfigurationError


def migrations_folder(option: Path | None = None) -> Path:
    """The folder of migration files: `option`, else `$VECTORMIGRATE_MIGRATIONS`, else `./migrations`; absolute."""
    return Path(option or os.environ.get(FOLDER_VARIABLE) or "migrations").absolute()


def job_name(id: str) -> str:
    """The name of a migration's Dagster job: its id with non-word characters as `_`."""
    return re.sub(r"[^A-Za-z0-9_]", "_", id)


def check_id(id: str) -> None:
    """Refuse what cannot be the id of a migration.

    Raises:
        ConfigurationError: it has other characters, or is a word that Dagster keeps for itself.
    """
    if ID_PATTERN.fullmatch(id) is None:
        raise ConfigurationError(
            f"'{id}' cannot be the id of a migration; use 1 to 64 letters, digits, '_', '-' and '.', "
            "beginning with a letter or a digit"
        )
    if keyword.iskeyword(job_name(id)) or job_name(id) in _DAGSTER_WORDS:
        raise ConfigurationError(f"'{id}' is a word that Dagster keeps for itself; choose another id")


def load_migration(path: Path) -> Migration:
    """Read one migration file; relative values of `path:` are relative to the file's own folder.

    Raises:
        ConfigurationError: one line for each thing that is wrong, as `file:line: key.path: message`.
    """
    if path.suffix != SUFFIX:
        raise ConfigurationError(f"'{path}' is not a migration file; its name must end in '{SUFFIX}'")
    check_id(path.stem)
    return parse_migration(read_text(path), path)


def parse_migration(text: str, path: Path) -> Migration:
    """Read the text of a migration file that is, or will be, at `path`.

    Raises:
        ConfigurationError: as `load_migration`.
    """
    document = read_document(text, path)
    if document.data is None and not document.problems:
        raise ConfigurationError(f"{path}:1: the file is empty; 'vectormigrate init {path.stem}' shows what one holds")
    if not isinstance(document.data, dict):
        raise ConfigurationError(f"{path}:1: the file must hold keys such as 'source:' and 'target:'")
    ours = [
        Problem(line=document.line(where), path=where, message=message)
        for where, message in find_secrets(document.data)
    ]
    if "id" in document.data:
        message = f"unknown key; the id is the file's name, '{path.stem}'"
        ours.append(Problem(line=document.line(("id",)), path=("id",), message=message))
    known = {problem.path for problem in (*document.problems, *ours)}
    migration, refused = _validate(document.data, path)
    if refused is not None:
        problems = [p for p in problems_of(refused, document) if not any(p.path[: len(k)] == k for k in known if k)]
    else:
        problems = []
    problems = sorted([*document.problems, *ours, *problems], key=lambda problem: problem.line)
    if problems or migration is None:
        raise ConfigurationError("\n".join(problem.text(path) for problem in problems)) from refused
    return migration


def _validate(data: dict[str, Any], path: Path) -> tuple[Migration | None, ValidationError | None]:
    """Build the model; strictly, so that `true` is not 1 and "4" is not 4."""
    # A section whose keys are all commented out is an absent section.
    given = {key: value for key, value in data.items() if value is not None or key in {"source", "target"}}
    for side in ("source", "target"):
        endpoint = given.get(side)
        if isinstance(endpoint, dict) and isinstance(endpoint.get("path"), str):
            given[side] = {**endpoint, "path": _absolute(endpoint["path"], path)}
    _locate_queries(given, path)
    try:
        migration = Migration.model_validate_json(to_json({**given, "id": path.stem}), strict=True)
    except ValidationError as error:
        return None, error
    return migration, None


def _locate_queries(given: dict[str, Any], path: Path) -> None:
    """Make `validation.search.queries_file` absolute."""
    validation = given.get("validation")
    search = validation.get("search") if isinstance(validation, dict) else None
    if isinstance(validation, dict) and isinstance(search, dict) and isinstance(search.get("queries_file"), str):
        absolute = {"queries_file": _absolute(search["queries_file"], path)}
        given["validation"] = {**validation, "search": {**search, **absolute}}


def _absolute(text: str, path: Path) -> str:
    """A path that is relative to the folder of the migration file."""
    return os.path.normpath(path.absolute().parent / Path(os.path.expanduser(text)))  # noqa: PTH111  (never raises)


def load_folder(folder: Path) -> tuple[list[Migration], list[BrokenMigration]]:
    """Read every migration file of a folder, in order of their names; a bad one does not spoil the others.

    Two files whose Dagster jobs would have the same name are both refused. A folder that does not exist is empty.

    Raises:
        ConfigurationError: `folder` is not a folder, or cannot be read.
    """
    loaded: list[Migration] = []
    broken: list[BrokenMigration] = []
    files = _files(folder)
    clashes = _clashes(files)
    for path in files:
        try:
            _refuse_clash(path, clashes)
            loaded.append(load_migration(path))
        except ConfigurationError as error:
            broken.append(BrokenMigration(path, error))
    return loaded, broken


def find_migration(folder: Path, id: str) -> Migration:
    """Read the migration `id` of a folder.

    Raises:
        UnknownMigration: there is none; the message names the nearest.
        ConfigurationError: it is wrong, or its jobs' names are those of another migration too.
    """
    check_id(id)
    files = _files(folder)
    path = folder / f"{id}{SUFFIX}"
    if path not in files:
        near = difflib.get_close_matches(id, [file.stem for file in files], n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"'vectormigrate init {id}' writes one"
        raise UnknownMigration(f"there is no migration '{id}' in '{folder}'; {hint}")
    _refuse_clash(path, _clashes(files))
    return load_migration(path)


def _refuse_clash(path: Path, clashes: dict[Path, str]) -> None:
    if path in clashes:
        raise ConfigurationError(clashes[path])


def _files(folder: Path) -> list[Path]:
    """Files that are, or were meant to be, migrations."""
    try:
        if not folder.exists():
            return []
        entries = sorted(folder.iterdir())
    except NotADirectoryError as error:
        raise ConfigurationError(f"'{folder}' is a file; --migrations names a folder") from error
    except OSError as error:
        raise ConfigurationError(f"folder '{folder}' cannot be read: {error.strerror or error}") from error
    return [entry for entry in entries if entry.suffix in {SUFFIX, ".yml"} and not entry.name.startswith(".")]


def _clashes(files: list[Path]) -> dict[Path, str]:
    """Files that would give the same name to two things in Dagster, each with an error naming both."""
    users: dict[str, set[Path]] = defaultdict(set)
    for file in files:
        if file.suffix == SUFFIX:
            for suffix in _JOB_SUFFIXES:
                users[job_name(file.stem) + suffix].add(file)
    clashes: dict[Path, str] = {}
    for name, paths in sorted(users.items()):
        if len(paths) > 1:
            both = " and ".join(f"'{path}'" for path in sorted(paths))
            for path in paths:
                clashes.setdefault(path, f"{both} would both give the name '{name}' to a job; rename one")
    return clashes
