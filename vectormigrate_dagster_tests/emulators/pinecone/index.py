"""One index: its description, whether it is ready, and its namespaces."""

from __future__ import annotations

from typing import Any

from vectormigrate_dagster_tests.emulators.pinecone.errors import Kind, Refused, invalid
from vectormigrate_dagster_tests.emulators.pinecone.namespace import Namespace
from vectormigrate_dagster_tests.emulators.pinecone.settings import MAX_ID_BYTES, Settings

DEFAULT_NAMESPACE = "__default__"
DENSE, SPARSE = "_values", "_sparse_values"
"""Reserved fields: a schema of nothing else makes a legacy vector index."""


class Index:
    """An index that exists.

    Attributes:
        fields: its schema, with defaults filled in.
        namespaces: those that exist, by name.
        deleted: whether it is on its way out.
    """

    def __init__(
        self, name: str, fields: dict[str, dict[str, Any]], request: dict[str, Any], settings: Settings
    ) -> None:
        self.name = name
        self.fields = fields
        self.deployment: dict[str, Any] = request.get("deployment") or {
            "deployment_type": "managed",
            "cloud": "aws",
            "region": "us-east-1",
        }
        self.deletion_protection: str = request.get("deletion_protection", "disabled")
        self.tags: dict[str, str] = dict(request.get("tags") or {})
        self.read_capacity: dict[str, Any] = request.get("read_capacity") or {"mode": "OnDemand"}
        self.namespaces: dict[str, Namespace] = {}
        self.deleted = False
        self._settings = settings
        self._described = 0

    @property
    def legacy(self) -> bool:
        """Whether the vectors API serves it; the documents API serves all others."""
        return self.fields.keys() <= {DENSE, SPARSE}

    @property
    def pod(self) -> bool:
        return self.deployment["deployment_type"] == "pod"

    @property
    def ready(self) -> bool:
        return self._described >= self._settings.ready_after and not self.deleted

    @property
    def gone(self) -> bool:
        return self.deleted and self._described >= self._settings.gone_after

    def tick(self) -> None:
        """Count a description that was given."""
        self._described += 1

    def delete(self) -> None:
        self.deleted, self._described = True, 0

    def described(self, host: str) -> dict[str, Any]:
        """The description; there is no host before the index is ready."""
        state = "Terminating" if self.deleted else "Ready" if self.ready else "Initializing"
        return {
            "name": self.name,
            "schema": {"fields": self.fields},
            "deployment": self.deployment,
            "deletion_protection": self.deletion_protection,
            "read_capacity": {**self.read_capacity, "status": {"state": "Ready"}},
            "status": {"ready": self.ready, "state": state},
            "host": host if self.ready or self.deleted else None,
            "tags": self.tags or None,
        }

    # Namespaces

    def to_read(self, name: str | None) -> Namespace:
        """A namespace; one that does not exist reads as empty."""
        name = checked_namespace(name)
        namespace = self.namespaces.get(name) or Namespace(name, self._settings)
        namespace.tick()
        return namespace

    def to_write(self, name: str | None) -> Namespace:
        """A namespace, which comes into being if need be."""
        name = checked_namespace(name)
        namespace = self.namespaces.setdefault(name, Namespace(name, self._settings))
        namespace.tick()
        return namespace

    def to_change(self, name: str | None) -> Namespace:
        """A namespace that exists.

        Raises:
            Refused: it does not.
        """
        namespace = self.namespaces.get(checked_namespace(name))
        if namespace is None:
            raise Refused(Kind.NOT_FOUND, "Namespace not found")
        namespace.tick()
        return namespace

    def seen(self) -> dict[str, Namespace]:
        """All namespaces that are there to be seen by name, in the order of their bytes."""
        for namespace in self.namespaces.values():
            namespace.tick()
        return {name: namespace for name, namespace in sorted(self.namespaces.items()) if namespace.seen}


def checked_namespace(name: Any) -> str:
    """A namespace's name: at most 512 ASCII characters without NUL; nothing stands for the default one."""
    if name is None or name == "":
        return DEFAULT_NAMESPACE
    if not isinstance(name, str) or not name.isascii() or "\0" in name:
        raise invalid(f"Namespace must be ASCII, but got '{name}'")
    if len(name) > MAX_ID_BYTES:
        raise invalid(f"Namespace must be at most {MAX_ID_BYTES} characters, but got {len(name)}")
    return name
