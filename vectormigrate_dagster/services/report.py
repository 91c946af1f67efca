"""Write a validation's report: a page, and beside it the same as JSON."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.services.context import endpoints
from vectormigrate_dagster.validation import ValidationReport
from vectormigrate_dagster.validation.page import Subject, report_json, report_page

_SUFFIXES = (".html", ".htm")


def check_report(path: Path) -> None:
    """Check, before any work is done, that a report can be written there.

    Raises:
        ConfigurationError: it cannot, or a file that is no report's stands where its data would be written.
    """
    if path.suffix not in _SUFFIXES:
        raise ConfigurationError(f"'{path}' is no place for a report; its name must end in {' or '.join(_SUFFIXES)}")
    if not path.parent.is_dir():
        raise ConfigurationError(f"there is no folder '{path.parent}' to write the report into")
    data = path.with_suffix(".json")
    for place in (path, data):
        if place.is_dir():
            raise ConfigurationError(f"'{place}' is a folder; give the report another name")
    if data.exists() and not _is_data(data):
        raise ConfigurationError(
            f"the data of the report would replace '{data}', which is something else; give the report another name"
        )
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _unwritable(path, error) from error


def write_report(path: Path, migration: Migration, report: ValidationReport) -> Path:
    """Write the page, and its data as JSON in a file of the same name that ends in `.json`; return that file.

    An earlier report in the same place is replaced by a whole one or not at all.

    Raises:
        ConfigurationError: a file cannot be written.
    """
    source, target = endpoints(migration)
    subject = Subject(migration=migration.id, source=str(source), target=str(target))
    data = path.with_suffix(".json")
    try:
        _replace(data, json.dumps(report_json(subject, report), indent=1) + "\n")
        _replace(path, report_page(subject, report))
    except OSError as error:
        raise _unwritable(path, error) from error
    return data


def _is_data(path: Path) -> bool:
    """Whether a file is the data of an earlier report."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.keys() == {"migration", "source", "target", "report"}


def _replace(path: Path, text: str) -> None:
    """Write a file beside the final one, then put it in its place; halves of characters are written as escapes."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"the report '{path}' cannot be written: {error.strerror or error}")
