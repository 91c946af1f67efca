"""The fields of a collection as a file: `name: type`, in YAML or JSON."""

from __future__ import annotations

from pathlib import Path

from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.migration_file.document import Problem, read_document, read_text

__all__ = ["read_fields"]


def read_fields(path: Path) -> dict[str, str]:
    """Read each field's type.

    Raises:
        ConfigurationError: the file is not a mapping of names to names of types.
    """
    document = read_document(read_text(path), path)
    if not isinstance(document.data, dict):
        raise ConfigurationError(f"{path}:1: the file must hold one 'field: type' on each line")
    problems = list(document.problems)
    for name, given in document.data.items():
        if not isinstance(given, str):
            message = "must be the name of a type, such as text"
            problems.append(Problem(line=document.line((name,)), path=(name,), message=message))
    if problems:
        raise ConfigurationError("\n".join(problem.text(path) for problem in problems))
    return dict(document.data)
