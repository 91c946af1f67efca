"""What a call goes through on either face: the key, faults, then the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from vectormigrate_dagster_tests.emulators import faults, service
from vectormigrate_dagster_tests.emulators.service import same_key
from vectormigrate_dagster_tests.emulators.weaviate.engine import Engine
from vectormigrate_dagster_tests.emulators.weaviate.errors import Kind, Refused
from vectormigrate_dagster_tests.emulators.weaviate.faults import REFUSALS, Fault

Result = TypeVar("Result")

MODULES = (
    *("text2vec-openai", "text2vec-cohere", "text2vec-huggingface", "text2vec-weaviate", "text2vec-transformers"),
    *("multi2vec-cohere", "multi2vec-clip", "text2multivec-jinaai", "ref2vec-centroid"),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the server is set up.

    Args:
        version: version of the server that is played.
        api_key: key that may do everything; None for a server that lets everyone in.
        read_only_api_key: key that may only read.
        auto_schema: AUTOSCHEMA_ENABLED, which is on by default.
        grpc_max_message_size: bytes of a message in either direction (GRPC_MAX_MESSAGE_SIZE).
        max_results: QUERY_MAXIMUM_RESULTS, for offset and limit together and for a delete by filter.
        default_limit: QUERY_DEFAULTS_LIMIT.
        index_after: seconds until the vector index holds a new object, with asynchronous indexing.
        async_indexing: ASYNC_INDEXING, which is off by default; implied by `index_after`.
        modules: vectorizer modules that are switched on.
        embeds: whether those modules make vectors, all of whose components are `vectors.EMBEDDED`; else they refuse
            objects without a vector, as a module without a key of its provider does.
        certificate, key: PEM files; both faces speak TLS if they are given.
    """

    version: str = "1.39.0"
    api_key: str | None = None
    read_only_api_key: str | None = None
    auto_schema: bool = True
    grpc_max_message_size: int = 104_858_000
    max_results: int = 10_000
    default_limit: int = 10
    index_after: float = 0.0
    async_indexing: bool = False
    modules: tuple[str, ...] = MODULES
    embeds: bool = True
    certificate: str | None = None
    key: str | None = None


class Service(service.Service[Fault]):
    """One server: its engine, its faults and its keys."""

    fault_type = Fault

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.engine = Engine(
            modules=settings.modules,
            auto_schema=settings.auto_schema,
            index_after=settings.index_after,
            embeds=settings.embeds,
            async_indexing=settings.async_indexing or settings.index_after > 0,
        )

    def admit(self, authorization: str | None, *, writes: bool) -> None:
        """Let a caller in.

        Raises:
            Refused: there is no key, it is wrong, or it may only read.
        """
        settings = self.settings
        if settings.api_key is None and settings.read_only_api_key is None:
            return
        if not authorization:
            raise Refused(
                "anonymous access not enabled. Please authenticate through one of the available methods: [API-keys]",
                Kind.UNAUTHENTICATED,
            )
        key = authorization.removeprefix("Bearer ")
        if same_key(key, settings.api_key):
            return
        if not same_key(key, settings.read_only_api_key):
            raise Refused("unauthorized: invalid api key", Kind.UNAUTHENTICATED)
        if writes:
            raise Refused("authorization, forbidden action: user 'reader' has insufficient permissions", Kind.FORBIDDEN)

    def call(self, method: str, work: Callable[[list[Fault]], Result], spoil: Callable[[Result, Fault], Any]) -> Result:
        """Do the work of a method, with the faults that are ordered for this call.

        Raises:
            Refused: the call is refused.
            ConnectionCut: the connection shall end without an answer.
        """
        ordered = self.faults.of(method)
        faults.before(ordered, REFUSALS)
        result = work(ordered)
        for each in ordered:
            spoil(result, each)
        faults.after(ordered)
        return result
