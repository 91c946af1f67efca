"""What pydantic found wrong, in words for the author of a migration file."""

from __future__ import annotations

import difflib
import json
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import TYPES, Options, options_of
from vectormigrate_dagster.migration_file.document import Document, KeyPath, Problem
from vectormigrate_dagster.migration_file.secrets import may_be_secret

__all__ = ["problems_of"]

_MUST_BE = {
    "bool_type": "true or false",
    "dict_type": "keys with values",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_attributes_type": "keys with values",
    "model_type": "keys with values",
    "path_type": "a path",
    "string_type": "text",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than": ("gt", "more than {}"),
    "greater_than_equal": ("ge", "at least {}"),
    "less_than": ("lt", "less than {}"),
    "less_than_equal": ("le", "at most {}"),
    "string_too_short": ("min_length", "text of at least {} character"),
}


def problems_of(error: ValidationError, document: Document) -> list[Problem]:
    """One problem for each place in the file; the alternatives of a union become one sentence."""
    alternatives: dict[KeyPath, list[str]] = {}
    complete: list[Problem] = []
    for detail in error.errors(include_url=False):
        path = _path(detail, document.data)
        must_be = _must_be(detail)
        if must_be is None:
            complete.append(Problem(line=document.line(path), path=path, message=_message(detail, path, document.data)))
        elif must_be not in alternatives.setdefault(path, []):
            alternatives[path].append(must_be)
    found_inside = {path[:length] for path in alternatives for length in range(len(path))}
    for path, choices in alternatives.items():
        if path in found_inside:
            continue  # a list with one wrong item is not also "not 'all'"
        message = f"must be {' or '.join(choices)}, found {_found(path, document.data)}"
        complete.append(Problem(line=document.line(path), path=path, message=message))
    return complete


def _path(detail: ErrorDetails, data: Any) -> KeyPath:
    """Where the problem is in the file: pydantic's location without the names of a union's members."""
    path: KeyPath = ()
    for key in detail["loc"]:
        inside = (isinstance(data, dict) and key in data) or (isinstance(data, list) and isinstance(key, int))
        if inside:
            data = data[key]
        if inside or (detail["type"] == "missing" and key == detail["loc"][-1]):
            path = (*path, key)
    return path


def _must_be(detail: ErrorDetails) -> str | None:
    """What a value should have been; None where that is not what is wrong."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "literal_error":
        return str(context["expected"])
    if kind == "string_pattern_mismatch":
        return "the name of an environment variable"
    if kind in _BOUNDS:
        limit, words = _BOUNDS[kind]
        return words.format(f"{context[limit]:,g}")
    return _MUST_BE.get(kind)


def _message(detail: ErrorDetails, path: KeyPath, data: Any) -> str:
    if detail["type"] == "missing":
        return "this key is missing"
    if detail["type"] == "extra_forbidden":
        known = _known_keys(path[:-1], data)
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        return f"unknown key; did you mean '{near[0]}'?" if near else f"unknown key; known are {', '.join(known)}"
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    return detail["msg"]


def _found(path: KeyPath, data: Any) -> str:
    if may_be_secret(path):
        return "something else"
    for key in path:
        data = data[key]
    text = json.dumps(data, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _known_keys(path: KeyPath, data: Any) -> list[str]:
    """Keys that the model has at `path`."""
    model: type[BaseModel] = Migration
    for key in path:
        if model is Migration:
            data = data.get(key)
        inner = _model_in(model.model_fields[str(key)].annotation) if str(key) in model.model_fields else None
        if inner is Options and isinstance(data, dict) and data.get("type") in TYPES:
            inner = options_of(data["type"])
        if inner is None:
            return []
        model = inner
    return sorted(set(model.model_fields) - {"id"}) if model is Migration else sorted(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as `Model`, `Model | None` or `Annotated[Model, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for inner in get_args(annotation) if (model := _model_in(inner)) is not None), None)
