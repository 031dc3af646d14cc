"""Close connections that only keep a place, and refuse more of them than there may be."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from deeplabctl.serve.answers import error
from deeplabctl.serve.limits import Limits
from deeplabctl.serve.request_error import RequestError


class GuardedProtocol(H11Protocol):
    """Give each request the time of the limits to send its head, which uvicorn gives without end."""

    def __init__(self, *arguments: Any, limits: Limits, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits = limits
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            transport.write(_busy(self._limits))
            transport.close()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._unwatch()
        super().connection_lost(exc)

    @property
    def _has_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self) -> None:
        if self._has_request:
            self._unwatch()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self._limits.timeout, self._close)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close(self) -> None:
        self._deadline = None
        if not self._has_request:
            self.transport.close()


def _busy(limits: Limits) -> bytes:
    message = f"all {limits.connections} connections are taken; try again later"
    body = error(RequestError(503, "too_many_connections", message)).model_dump_json()
    head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nretry-after: 1\r\nconnection: close"
    return f"HTTP/1.1 503 Service Unavailable\r\n{head}\r\n\r\n{body}".encode()
