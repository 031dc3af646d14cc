"""Listen on a port, and end cleanly: running requests are finished first."""

from __future__ import annotations

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

from deeplabctl.errors import DeepLabError
from deeplabctl.serve.limits import Limits
from deeplabctl.serve.protocol import GuardedProtocol

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
