"""A gRPC server, some of whose methods are answered with octets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

Answer = Callable[[bytes], bytes]


class _AtOnce(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Answers some methods with bytes, and leaves the others to whoever they belong to."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self._handlers = {
            method: grpc.unary_unary_rpc_method_handler(lambda request, _, answer=answer: answer(request))
            for method, answer in answers.items()
        }

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Return the handler of a call."""
        return self._handlers.get(details.method) or continuation(details)


def serve(answers: Mapping[str, Answer]) -> tuple[Any, int]:
    """A gRPC server, which is not started yet, and its port."""
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(8), interceptors=[_AtOnce(answers)], options=unlimited)
    return server, server.add_insecure_port("127.0.0.1:0")
