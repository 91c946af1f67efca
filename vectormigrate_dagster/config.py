"""One strict model of a migration file, `migrations/<id>.yaml`; `migration_file` reads and writes such files.

Secrets are never in it: it holds the names of environment variables, read when a database is opened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import to_json

from vectormigrate_dagster.databases import TYPES, Endpoint, Options, options_of
from vectormigrate_dagster.databases.address import plain_address, secrets_in_query, split_address
from vectormigrate_dagster.databases.endpoint import DEFAULT_PORTS, DEFAULT_URLS, EMBEDDED, known_as
from vectormigrate_dagster.errors import ConfigurationError, MissingSecret

ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ENV_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
_LOOPBACK = {"127.0.0.1", "::1", "0.0.0.0"}  # noqa: S104  (names of this machine, nothing is bound)
_CRON_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_CRON_PART = re.compile(r"(?:\*|(?P<first>\d{1,2})(?:-(?P<last>\d{1,2}))?)(?:/(?P<step>[1-9]\d?))?")
_AUTO_WORKERS = 4
"""More than this on one server rarely pays, and Dagster's SQLite storage is written by all of them."""

Auto = Literal["auto"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EndpointConfig(_Strict):
    """`source:` or `target:` of a migration file."""

    type: str
    url: Annotated[str | None, Field(validate_default=True)] = None
    path: Path | None = None
    api_key_env: Annotated[str, Field(pattern=_ENV_NAME)] | None = None
    collection: Annotated[str, Field(min_length=1)]
    scopes: Literal["all"] | tuple[str, ...] = "all"
    options: SerializeAsAny[Options] = Field(default_factory=Options, validate_default=True)

    @field_validator("type")
    @classmethod
    def _known_type(cls, value: str) -> str:
        if value not in TYPES:
            raise ValueError(f"'{value}' is not a database this version moves; use one of {', '.join(TYPES)}")
        return value

    @field_validator("url")
    @classmethod
    def _plain_url(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return DEFAULT_URLS.get(info.data.get("type", ""))
        return plain_address(value, ", or use 'path' for an embedded database")

    @field_validator("scopes")
    @classmethod
    def _some_scopes(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not value:
            raise ValueError("the list is empty; name at least one scope, or write 'all'")
        if isinstance(value, tuple) and len(set(value)) < len(value):
            raise ValueError("a scope is named twice; name each once")
        return value

    @field_validator("options", mode="before")
    @classmethod
    def _typed_options(cls, value: Any, info: ValidationInfo) -> Any:
        if type(value) is Options:
            value = value.model_dump(exclude_unset=True)
        if not isinstance(value, dict):
            return value
        if "type" not in info.data:
            return Options()  # `type` is wrong, so nobody can say what its options are
        return options_of(info.data["type"]).model_validate_json(to_json(value), strict=True)

    @model_validator(mode="after")
    def _one_address(self) -> EndpointConfig:
        if self.path is not None and self.type not in EMBEDDED:
            raise ValueError(f"there is no embedded {self.type}; give 'url' (a server) instead of 'path'")
        if (self.url is None) == (self.path is None):
            raise ValueError("give exactly one of 'url' (a server) and 'path' (an embedded database)")
        return self

    @property
    def embedded(self) -> bool:
        """Whether this is a folder that one process at a time may open."""
        return self.path is not None

    @property
    def place(self) -> tuple[str, str, str]:
        """Type, address with the server's database if it has several, and collection; alike for two spellings."""
        if self.path is not None:
            return self.type, os.path.realpath(self.path), self.collection
        address = split_address(self.url or "")
        host = (address.hostname or "").rstrip(".")
        host = "localhost" if host in _LOOPBACK else host
        port = address.port or DEFAULT_PORTS[self.type][address.scheme]
        database = self.options.model_dump().get("database")
        within = "" if database is None else f" database {database}"
        return self.type, f"{host}:{port}{address.path.rstrip('/')}{within}", known_as(self.type, self.collection)

    def endpoint(self, environment: Mapping[str, str]) -> Endpoint:
        """The endpoint with its secret filled in.

        Raises:
            MissingSecret: the variable `api_key_env` names is not in `environment`.
        """
        secret: SecretStr | None = None
        if self.api_key_env is not None:
            if self.api_key_env not in environment:
                raise MissingSecret(
                    f"environment variable '{self.api_key_env}' is not set; "
                    f"set it to the key of {self.type} collection '{self.collection}'"
                )
            secret = SecretStr(environment[self.api_key_env])
        return Endpoint(
            type=self.type,
            url=self.url,
            path=self.path,
            api_key=secret,
            collection=self.collection,
            options=self.options,
        )


class IdsConfig(_Strict):
    """How ids become ids of the target; see `mapping.ids`.

    Args:
        namespace: UUIDv5 namespace; `qdrant-migration` goes on with a target that qdrant/migration filled.
    """

    policy: Literal["auto", "native", "uuid5"] = "auto"
    field: Annotated[str, Field(min_length=1)] = "_source_id"
    namespace: str | None = None


class MappingConfig(_Strict):
    """`mapping:` of a migration file.

    Args:
        json_field: payload field that keeps, as JSON text, values for which the target has no place of their own; None
            refuses such values. See `mapping.json_field`.
    """

    ids: IdsConfig = IdsConfig()
    rename: dict[str, str] = Field(default_factory=dict)
    drop: tuple[str, ...] = ()
    types: dict[str, str] = Field(default_factory=dict)
    allow: tuple[str, ...] = ()
    scope_as: Literal["auto", "native", "field", "collection"] = "auto"
    json_field: Annotated[str, Field(min_length=1)] | None = "_source_json"


class TransferConfig(_Strict):
    """`transfer:` of a migration file.

    Args:
        defer_indexing: `auto` indexes a collection that this migration makes after its load, where the database can.
    """

    on_conflict: Literal["fail", "skip", "overwrite"] = "fail"
    batch_size: Annotated[int, Field(ge=1, le=100_000)] | Auto = "auto"
    partition_records: Annotated[int, Field(ge=1)] | Auto = "auto"
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 5.0
    workers: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    max_retries: Annotated[int, Field(ge=0, le=100)] = 5
    validate_every: Annotated[int, Field(ge=0)] = 10
    rate_limit: Annotated[float, Field(gt=0)] | None = None
    defer_indexing: Literal["auto", "never"] = "auto"

    @property
    def batch_records(self) -> int | None:
        """Most records per batch; None where only what is measured and the target decide."""
        return None if self.batch_size == "auto" else self.batch_size


class SearchConfig(_Strict):
    """`validation.search:` of a migration file.

    Args:
        queries: records that are drawn as queries; 0 leaves searching out.
        queries_file: queries of the user's instead, see `validation.search.query_file`.
        filter: payload field that queries are filtered by in a second round; "auto" finds one, null leaves that out.
    """

    queries: Annotated[int, Field(ge=0)] = 100
    queries_file: Path | None = None
    filter: Annotated[str, Field(min_length=1)] | None = "auto"
    k: Annotated[int, Field(ge=1, le=1000)] = 10
    min_overlap: Annotated[float, Field(ge=0, le=1)] = 0.95


class ValidationConfig(_Strict):
    """`validation:` of a migration file."""

    sample_size: Annotated[int, Field(ge=1)] = 1000
    min_cosine: Annotated[float, Field(gt=0, le=1)] = 0.9999
    search: SearchConfig = SearchConfig()


class StaleConfig(_Strict):
    """`journal.stale_seconds:`: how old what a read tells may be; None is what the database is known for."""

    source: Annotated[float, Field(ge=0)] | None = None
    target: Annotated[float, Field(ge=0)] | None = None


class JournalConfig(_Strict):
    """`journal:` of a migration file: where changes are noted, and what a live migration may rely on.

    Times in seconds; a larger one is safer, and costs time only after something went wrong. They are noted with the
    plan: a change of them counts from the next one.

    Args:
        url, url_env: an address as SQLAlchemy takes it, or the variable that holds one; both None is SQLite beside
            Dagster's storage.
        start_seconds: from the moment an application asks to write until it has sent the request.
        request_seconds: from the sending of a request, with the client's own retries, until no server applies it.
        margin_seconds: for which a process may be paused between looking at the clock and sending.
        stale_seconds: how old what a read tells may be, per side.
    """

    url: str | None = None
    url_env: Annotated[str, Field(pattern=_ENV_NAME)] | None = None
    start_seconds: Annotated[float, Field(gt=0)] = 5.0
    request_seconds: Annotated[float, Field(gt=0)] = 120.0
    margin_seconds: Annotated[float, Field(gt=0)] = 5.0
    stale_seconds: StaleConfig = StaleConfig()

    @field_validator("url")
    @classmethod
    def _no_password(cls, value: str | None) -> str | None:
        if value is not None:
            address = split_address(value)
            if address.password is not None or secrets_in_query(address):
                raise ValueError("the address holds a password; remove it, or name a variable in 'url_env' instead")
        return value

    @model_validator(mode="after")
    def _one_place(self) -> JournalConfig:
        if self.url is not None and self.url_env is not None:
            raise ValueError("give one of 'url' and 'url_env', not both")
        return self


class CutoverConfig(_Strict):
    """`cutover:` of a migration file: what making the target the primary may cost, and what must be so before.

    Args:
        freeze_seconds: writes are frozen for so long at most; an application waits for 30 (`DualWriter`).
        patience_seconds: until what is under way is over, so that a freeze is short.
        shadow_reads: of the last day, that there must be (`ShadowReader`); 0 asks for none.
        shadow_overlap: how much of their answers both sides must have in common, on average.
    """

    freeze_seconds: Annotated[float, Field(gt=0)] = 20.0
    patience_seconds: Annotated[float, Field(gt=0)] = 300.0
    shadow_reads: Annotated[int, Field(ge=0, le=1000)] = 0
    shadow_overlap: Annotated[float, Field(ge=0, le=1)] = 0.95


class ScheduleConfig(_Strict):
    """`schedule:` of a migration file.

    Args:
        generation: the one that action `rollback` may take back, so that it never meets what is moved later.
    """

    cron: str | None = None
    action: Literal["missing", "verify", "rollback"] = "missing"
    generation: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _one_generation(self) -> ScheduleConfig:
        if (self.action == "rollback") != (self.generation is not None):
            raise ValueError(
                "action 'rollback' needs 'generation', the number of the one that may be taken back, and no other "
                "action has one; 'vectormigrate plan' shows the number"
            )
        return self

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, value: str | None) -> str | None:
        parts = [] if value is None else value.split()
        if value is not None and len(parts) != len(_CRON_FIELDS):
            raise ValueError(f"a cron line has five fields (minute hour day month weekday), found {len(parts)}")
        for part, (name, low, high) in zip(parts, _CRON_FIELDS, strict=False):
            if not all(_cron_item(item, low, high) for item in part.split(",")):
                raise ValueError(
                    f"'{part}' is not a {name}; use {low} to {high}, *, ranges (a-b), steps (*/n) and commas"
                )
        return value


class Migration(_Strict):
    """A migration file.

    Args:
        id: the file's name without `.yaml`.
    """

    id: str
    source: EndpointConfig
    target: EndpointConfig
    mapping: MappingConfig = MappingConfig()
    transfer: TransferConfig = TransferConfig()
    validation: ValidationConfig = ValidationConfig()
    journal: JournalConfig = JournalConfig()
    cutover: CutoverConfig = CutoverConfig()
    schedule: ScheduleConfig = ScheduleConfig()

    @property
    def embedded(self) -> bool:
        """Whether a side is a folder that one process at a time may open."""
        return self.source.embedded or self.target.embedded

    def workers(self, asked: int | None = None) -> int:
        """Processes that may load at the same time.

        Args:
            asked: instead of `transfer.workers`.

        Raises:
            ConfigurationError: more than one, and an embedded database that one process at a time may open.
        """
        wanted = self.transfer.workers if asked is None else asked
        folders = [side for side in (self.source, self.target) if side.embedded]
        if wanted == "auto":
            return 1 if folders else min(_AUTO_WORKERS, os.cpu_count() or 1)
        if wanted > 1 and folders:
            raise ConfigurationError(
                f"{wanted} workers were asked for, but '{folders[0].path}' is an embedded {folders[0].type} that one "
                "process at a time may open; use 1 worker"
            )
        return wanted

    @model_validator(mode="after")
    def _folders_are_for_one(self) -> Migration:
        self.workers()
        return self

    @model_validator(mode="after")
    def _two_places(self) -> Migration:
        if self.source.place == self.target.place:
            raise ValueError(
                f"source and target are the same {self.source.type} collection '{self.source.collection}'; "
                "name another collection in 'target'"
            )
        return self


def _cron_item(item: str, low: int, high: int) -> bool:
    match = _CRON_PART.fullmatch(item)
    if match is None:
        return False
    first, last = match["first"], match["last"]
    bounds = [int(bound) for bound in (first, last) if bound is not None]
    return bounds == sorted(bounds) and all(low <= bound <= high for bound in bounds)
