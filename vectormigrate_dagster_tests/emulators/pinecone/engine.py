"""The control plane: indexes that are made, described, configured and deleted."""

from __future__ import annotations

import re
import threading
import uuid
from typing import Any

from vectormigrate_dagster_tests.emulators.pinecone.errors import Kind, Refused, invalid, missing
from vectormigrate_dagster_tests.emulators.pinecone.index import Index
from vectormigrate_dagster_tests.emulators.pinecone.schemas import completed
from vectormigrate_dagster_tests.emulators.pinecone.settings import Settings

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,43}[a-z0-9])?")
_TAG = re.compile(r"[A-Za-z0-9_-]{1,80}")


class Engine:
    """Indexes in memory. Whoever calls a method holds the lock.

    Args:
        settings: how the server is set up.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lock = threading.RLock()
        self.indexes: dict[str, Index] = {}

    def index(self, name: str) -> Index:
        found = self.indexes.get(name)
        if found is None or found.gone:
            self.indexes.pop(name, None)
            raise missing(f"Resource {name} not found")
        return found

    def serving(self, name: str) -> Index:
        """An index whose data plane answers."""
        index = self.index(name)
        if not index.ready:
            raise Refused(Kind.UNAVAILABLE, f"Index {name} is not ready")
        return index

    def all(self) -> list[Index]:
        return [index for index in self.indexes.values() if not index.gone]

    def create(self, request: dict[str, Any]) -> Index:
        _check_known(
            request, {"name", "schema", "deployment", "read_capacity", "deletion_protection", "tags", "cmek_id"}
        )
        name = request.get("name") or f"index-{uuid.uuid4().hex[:8]}"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise invalid(
                "Name must consist only of lower case alphanumeric characters or '-', must not begin or end with '-', "
                f"and must be at most 45 characters long, but got '{name}'"
            )
        fields = completed(request.get("schema"))
        self._check_deployment(request.get("deployment"))
        _check_protection(request.get("deletion_protection", "disabled"))
        _check_tags(request.get("tags") or {})
        if any(index.name == name for index in self.all()):
            raise Refused(Kind.EXISTS, "Resource already exists")
        self.indexes[name] = Index(name, fields, request, self.settings)
        return self.indexes[name]

    def configure(self, name: str, request: dict[str, Any]) -> Index:
        index = self.index(name)
        _check_known(request, {"schema", "deployment", "read_capacity", "deletion_protection", "tags"})
        if "schema" in request and completed(request["schema"]) != index.fields:
            raise invalid("The schema of an index cannot be changed")
        if "deployment" in request:
            if not index.pod:
                raise invalid("Only pod indexes can be scaled")
            index.deployment = {**index.deployment, **request["deployment"]}
        if "deletion_protection" in request:
            _check_protection(request["deletion_protection"])
            index.deletion_protection = request["deletion_protection"]
        if "read_capacity" in request:
            index.read_capacity = request["read_capacity"]
        tags = {**index.tags, **(request.get("tags") or {})}
        _check_tags(tags)
        index.tags = {key: value for key, value in tags.items() if value}  # an empty value takes a tag away
        return index

    def delete(self, name: str) -> None:
        index = self.index(name)
        if index.deletion_protection == "enabled":
            raise Refused(
                Kind.FORBIDDEN,
                "Deletion protection is enabled for this index. Disable deletion protection before retrying.",
            )
        index.delete()

    def _check_deployment(self, deployment: Any) -> None:
        kind = "managed" if deployment is None else deployment.get("deployment_type")
        if kind == "pod" and not self.settings.pods:
            raise invalid("Pod-based indexes cannot be created with this version of the API")
        if kind not in ("managed", "pod", "byoc"):
            raise invalid(f"deployment_type must be one of managed, pod, byoc, got {kind}")


def _check_known(request: Any, known: set[str]) -> None:
    if not isinstance(request, dict):
        raise invalid("the request is no JSON object")
    if unknown := request.keys() - known:
        raise Refused(Kind.UNPROCESSABLE, f"unknown field `{min(unknown)}`")


def _check_protection(value: Any) -> None:
    if value not in ("enabled", "disabled"):
        raise invalid(f"deletion_protection must be one of enabled, disabled, got {value}")


def _check_tags(tags: dict[str, str]) -> None:
    if len(tags) > 20:
        raise invalid(f"An index can have at most 20 tags, got {len(tags)}")
    for key, value in tags.items():
        if not _TAG.fullmatch(key):
            raise invalid(f"Tag key '{key}' must have 1 to 80 letters, digits, '_' or '-'")
        if (
            not isinstance(value, str)
            or len(value) > 120
            or not value.isascii()
            or not (value.isprintable() or not value)
        ):
            raise invalid(f"Tag value of '{key}' must have at most 120 printable ASCII characters")
