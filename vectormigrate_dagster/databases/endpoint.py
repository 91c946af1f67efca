"""Where a collection is, and the settings of each database; imports nothing that is slow to import.

Reading a migration file and telling its status need no more than this.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, SecretStr


class Options(BaseModel):
    """`options:` of a migration file, as far as every database has them.

    Args:
        timeout_s: seconds that one call may take.
        folder_wait_s: seconds to wait for an embedded folder that another process has open.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout_s: float = 60.0
    folder_wait_s: float = 30.0


class MilvusOptions(Options):
    """Settings of a Milvus server.

    Args:
        database: the database that holds the collection.
    """

    database: str = "default"


class QdrantOptions(Options):
    """Settings of a Qdrant server.

    Args:
        grpc_url: address of its gRPC port, which is used for everything if given; the host is that of `url`.
    """

    grpc_url: str | None = None


OPTIONS: dict[str, type[Options]] = {"milvus": MilvusOptions, "qdrant": QdrantOptions}
"""Each database's settings, by the value of `type` in a migration file."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a collection is. Its text form never holds a secret.

    Args:
        type: the database's name in a migration file.
        url: address of a server; exactly one of `url` and `path` is set.
        path: folder of an embedded database.
        api_key: key or token, if the server needs one.
        collection: the collection's name.
        options: the database's own settings.
    """

    type: str
    collection: str
    url: str | None = None
    path: Path | None = None
    api_key: SecretStr | None = None
    options: Options = field(default_factory=Options)

    @property
    def address(self) -> str:
        """The server's address or the folder."""
        return self.url if self.url is not None else str(self.path)

    @property
    def embedded(self) -> bool:
        """Whether this is a folder that one process at a time may open."""
        return self.path is not None

    def __str__(self) -> str:
        return f"{self.type} collection '{self.collection}' at {self.address}"
