"""Listen on a port with limits on connections, and shut down cleanly: running requests are completed first."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from deeplabctl.errors import DeepLabError
from deeplabctl.serve.answers import describe_error
from deeplabctl.serve.uploads import Limits, RequestError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address, which others cannot take any more; port 0 is any that is free.

    Raises DeepLabError for an address that is not this machine's, or is taken.
    """
    try:
        found = socket.getaddrinfo(host or "none", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise DeepLabError(
            f"host {host}: expected an address of this machine, got {error}; choose another `host`"
        ) from None
    family, kind, protocol, _, address = found[0]
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
        bound.listen(0)  # Linux lets two programs bind one port, until one of them listens
    except OSError as error:
        bound.close()
        other = "host" if error.errno == errno.EADDRNOTAVAIL else "port"
        raise DeepLabError(f"cannot listen on {host}:{port}: {error.strerror}; choose another `{other}`") from None
    return bound


def url_of(bound: socket.socket) -> str:
    """Return the address of the page."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_public(bound: socket.socket) -> bool:
    """Tell whether other machines may reach the socket."""
    host = bound.getsockname()[0]
    return not host.startswith("127.") and host != "::1"


def run(app: FastAPI, bound: socket.socket, limits: Limits, ready: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM, then finish what runs; ``ready`` is called when requests are answered."""
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of what others send
    protocol: Any = partial(GuardedProtocol, limits=limits)
    config = uvicorn.Config(
        app, http=protocol, ws="none", lifespan="on", log_config=None, log_level="error", access_log=False,
        server_header=False, proxy_headers=False, timeout_graceful_shutdown=math.ceil(limits.timeout),
    )  # fmt: skip
    _Server(config, ready).run(sockets=[bound])


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
    body = describe_error(RequestError(503, "too_many_connections", message)).model_dump_json()
    head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nretry-after: 1\r\nconnection: close"
    return f"HTTP/1.1 503 Service Unavailable\r\n{head}\r\n\r\n{body}".encode()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle signals, and do not raise them again at the end as uvicorn does: that it ends was asked for."""
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second signal ends the process at once."""
        self.should_exit = True
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
