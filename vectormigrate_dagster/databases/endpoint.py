"""Where a collection is, and the settings of each database; imports nothing that is slow to import.

Reading a migration file and telling its status need no more than this.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from vectormigrate_dagster.databases.address import plain_address

Consistency = Literal["ONE", "QUORUM", "ALL"]
"""How many replicas take part: https://docs.weaviate.io/weaviate/concepts/replication-architecture/consistency"""


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
        search_ef: how many candidates a validation's searches of an HNSW index weigh: as many as the application's own
            searches do. Milvus keeps no such number itself; without one a search weighs few more than it returns.
    """

    database: str = "default"
    connect_timeout_s: float = 10.0
    ca_file: Path | None = None
    client_certificate_file: Path | None = None
    client_key_file: Path | None = None
    server_name: str | None = None
    search_ef: Annotated[int, Field(ge=1, le=32_768)] | None = None


class PineconeOptions(Options):
    """Settings of Pinecone. Without `url` the control plane is https://api.pinecone.io.

    Args:
        host: address of the index itself. The control plane, which a key may not be allowed to ask, is then not needed
            to read and write it; such an index is taken for a vector index, and its marker is not seen.
        cloud, region: where a new index is made.
        prefer_grpc: read and write records over gRPC, which takes a third of the time and the bytes. An index that does
            not answer so is asked over REST.
        grpc_url: address of the index's gRPC interface; without it that of the index itself, if TLS leads there.
        id_list: file with the ids to read, for an index that cannot list them (a pod index). Parquet with a column `id`
            and, if there are several namespaces, `namespace`; or text with an id a line, and a tab and the namespace
            behind it, if there are several. Nothing else is read or counted then.
        ca_file: certificates that the server's is checked against (PEM); without it the usual public ones.
        ready_s: most seconds to wait for a new index.
        visible_s: most seconds to wait until what was written can be read.
        missing_s: seconds for which a record is asked for again that is listed and cannot be read.
    """

    host: str | None = None
    cloud: str = "aws"
    region: str = "us-east-1"
    prefer_grpc: bool = True
    grpc_url: str | None = None
    id_list: Path | None = None
    ca_file: Path | None = None
    ready_s: float = 600.0
    visible_s: float = 120.0
    missing_s: float = 5.0

    @field_validator("host")
    @classmethod
    def _plain_host(cls, value: str | None) -> str | None:
        return None if value is None else plain_address(value if "://" in value else f"https://{value}")

    @field_validator("grpc_url")
    @classmethod
    def _plain_url(cls, value: str | None) -> str | None:
        return None if value is None else plain_address(value)


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


class WeaviateOptions(Options):
    """Settings of a Weaviate server. An address that begins with `https` is reached through TLS.

    Args:
        grpc_url: address of its gRPC port; without it port 50051 of the host of `url`, or Weaviate Cloud's own.
        ca_file: certificates that the server's is checked against (PEM); without it the usual public ones.
        read_consistency: how many replicas answer a read.
        write_consistency: how many replicas acknowledge a write.
        activate_tenants: make inactive tenants active for as long as they are read, and inactive again afterwards.
        replication_factor: of a collection that is created; without it that of the source.
    """

    grpc_url: str | None = None
    ca_file: Path | None = None
    read_consistency: Consistency = "QUORUM"
    write_consistency: Consistency = "QUORUM"
    activate_tenants: bool = False
    replication_factor: Annotated[int, Field(ge=1)] | None = None

    @field_validator("grpc_url")
    @classmethod
    def _plain_url(cls, value: str | None) -> str | None:
        return None if value is None else plain_address(value)


OPTIONS: dict[str, type[Options]] = {
    "milvus": MilvusOptions,
    "pinecone": PineconeOptions,
    "qdrant": QdrantOptions,
    "weaviate": WeaviateOptions,
}
"""Each database's settings, by the value of `type` in a migration file."""

DEFAULT_PORTS = {
    "milvus": {"http": 19_530, "https": 443},
    "pinecone": {"http": 80, "https": 443},
    "qdrant": {"http": 6333, "https": 6333},
    "weaviate": {"http": 8080, "https": 443},
}
"""The port of an address that names none, by `type` and scheme."""


DEFAULT_URLS = {"pinecone": "https://api.pinecone.io"}
"""The address of a service that there is one of, by `type`."""

EMBEDDED = frozenset({"milvus", "qdrant"})
"""Databases that can also be a folder."""


def known_as(type: str, collection: str) -> str:
    """A collection's name as its server writes it: Weaviate raises the first letter, so two spellings are one."""
    return collection[:1].upper() + collection[1:] if type == "weaviate" else collection


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
