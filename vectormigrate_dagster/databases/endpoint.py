"""Where a collection is, and the settings of each database; imports nothing that is slow to import.

Reading a migration file and telling its status need no more than this.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator

from vectormigrate_dagster.databases.address import plain_address


class Options(BaseModel):
    """`options:` of a migration file, as far as every database has them.

    Args:
        timeout_s: seconds that one call may take.
        folder_wait_s: seconds to wait for an embedded folder that another process has open.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    timeout_s: float = 60.0
    folder_wait_s: float = 30.0


class MilvusOptions(Options):
    """Settings of a Milvus server. An address that begins with `https` is reached through TLS.

    Args:
        database: the database that holds the collection.
        connect_timeout_s: seconds to wait for a server's first answer.
        ca_file: certificates that the server's is checked against (PEM); without it the usual public ones.
        client_certificate_file: our own certificate (PEM), where the server asks for one.
        client_key_file: the key of that certificate (PEM).
        server_name: the name in the server's certificate, where it is not the one in the address.
    """

    database: str = "default"
    connect_timeout_s: float = 10.0
    ca_file: Path | None = None
    client_certificate_file: Path | None = None
    client_key_file: Path | None = None
    server_name: str | None = None


class QdrantOptions(Options):
    """Settings of a Qdrant server. An address that begins with `https` is reached through TLS.

    Args:
        grpc_url: address of its gRPC port, which is used for everything if given; the host is that of `url`.
        ca_file: certificates that the server's is checked against (PEM); without it the usual public ones.
    """

    grpc_url: str | None = None
    ca_file: Path | None = None

    @field_validator("grpc_url")
    @classmethod
    def _plain_url(cls, value: str | None) -> str | None:
        return None if value is None else plain_address(value)


OPTIONS: dict[str, type[Options]] = {"milvus": MilvusOptions, "qdrant": QdrantOptions}
"""Each database's settings, by the value of `type` in a migration file."""

DEFAULT_PORTS = {"milvus": {"http": 19_530, "https": 443}, "qdrant": {"http": 6333, "https": 6333}}
"""The port of an address that names none, by `type` and scheme."""


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
