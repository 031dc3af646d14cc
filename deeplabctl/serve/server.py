"""Listen on a port with limits on connections, and shut down cleanly: running requests are completed first."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from types import FrameType
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from deeplabctl.errors import DeepLabError
from deeplabctl.serve import Limits
from deeplabctl.serve.answers import describe_error
from deeplabctl.serve.uploads import RequestError

_CHUNKS, _CHUNK = 1000, 128  # of a body: chunks of any size, and the least bytes that the others have on average
_BACKLOG = 128  # connections that are accepted at once
_FILES = 4 * _BACKLOG  # that may be open beside the connections: those that are about to be refused, and the program's
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address, which others cannot take any more; port 0 is any that is free.

    Raises DeepLabError for an address that is not this machine's, or is taken.
    """
    try:
        found = socket.getaddrinfo(
            "none" if host in ("", "*") else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", error)
        raise DeepLabError(f"host {host}: expected an address of this machine ({why}); choose another `host`") from None
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


def allow_files(connections: int) -> None:
    """Let this process open as many files as the connections take; raises DeepLabError where the system forbids it.

    When it cannot accept connections for want of files, asyncio prints thousands of tracebacks a second.
    """
    if sys.platform == "win32":
        return
    import resource

    needed = connections + _FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        if soft != resource.RLIM_INFINITY and soft < needed:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (OSError, ValueError):
        raise DeepLabError(
            f"expected {needed:,} files that may be open, for {connections:,} `connections`, got {hard:,}; "
            "choose fewer, or raise the limit (ulimit -n)"
        ) from None


def url_of(bound: socket.socket) -> str:
    """Return the address of the page."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def public_url_of(bound: socket.socket) -> str:
    """Return the address of the page as other machines may know it: that of this machine, for one that is any."""
    host, port = bound.getsockname()[:2]
    if host not in ("0.0.0.0", "::"):
        return url_of(bound)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside:
        try:
            outside.connect(("192.0.2.1", port))  # which sends nothing, but chooses the address to send from
            return f"http://{outside.getsockname()[0]}:{port}"
        except OSError:  # there is no network
            return url_of(bound)


def is_public(bound: socket.socket) -> bool:
    """Tell whether other machines may reach the socket."""
    host = bound.getsockname()[0]
    return not host.startswith("127.") and host != "::1"


def run(
    app: FastAPI, bound: socket.socket, limits: Limits, ready: Callable[[], None], ended: threading.Event | None = None
) -> None:
    """Serve until SIGINT or SIGTERM, or ``ended`` instead of signals; then finish what runs.

    ``ready`` is called when requests are answered.
    """
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of what others send
    protocol: Any = partial(GuardedProtocol, limits=limits)
    config = uvicorn.Config(
        app, http=protocol, ws="none", lifespan="on", log_config=None, log_level="error", access_log=False,
        backlog=_BACKLOG, server_header=False, proxy_headers=False, timeout_graceful_shutdown=math.ceil(limits.timeout),
    )  # fmt: skip
    _Server(config, ready, ended).run(sockets=[bound])


class GuardedProtocol(H11Protocol):
    """Give each request the time of the limits to send its head, and to take its answer; uvicorn gives both no end."""

    conn: _Connection

    def __init__(self, *arguments: Any, limits: Limits, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn = _Connection(h11.SERVER)
        self._limits = limits
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # writing is paused whenever a byte waits for its reader
        if len(self.connections) > self._limits.connections:
            message = "all connections are in use; try again later"
            self._refuse(RequestError(503, "too_many_connections", message, retry_after=1))
        else:
            self._watch()

    def pause_writing(self) -> None:
        """Wait for the reader of an answer, but not for ever."""
        super().pause_writing()
        if self._write_deadline is None:
            self._write_deadline = self.loop.call_later(self._limits.timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the reader has everything."""
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, unless an answer has begun."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(RequestError(400, "bad_request", self.conn.reason or msg))
        else:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._unwatch()
        self.resume_writing()
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

    def _refuse(self, refusal: RequestError) -> None:
        body = describe_error(refusal).model_dump_json()
        lines = [f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}", "content-type: application/json"]
        lines += [f"content-length: {len(body)}", "connection: close"]
        lines += [f"retry-after: {refusal.retry_after}"] if refusal.retry_after else []
        self.transport.write("\r\n".join([*lines, "", body]).encode())
        self.transport.close()


class _Connection(h11.Connection):
    """Refuse a body of many tiny chunks: each takes as long to read as thousands of bytes, and holds up all others."""

    _chunks = _bytes = 0
    reason = ""

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._bytes += len(event.data)
            if self._chunks > _CHUNKS + self._bytes // _CHUNK:
                self.reason = f"expected a body in chunks of {_CHUNK} bytes or more, got smaller ones"
                raise h11.RemoteProtocolError(self.reason)
        return event


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], ended: threading.Event | None) -> None:
        super().__init__(config)
        self._ready, self._ended = ready, ended

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle signals, and do not raise them again at the end as uvicorn does: that it ends was asked for."""
        signals = _SIGNALS if self._ended is None else ()
        before = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def on_tick(self, counter: int) -> bool:
        """Tell, ten times a second, whether to end."""
        return await super().on_tick(counter) or (self._ended is not None and self._ended.is_set())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second signal ends the process at once."""
        self.should_exit = True
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
