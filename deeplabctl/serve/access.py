"""Decide whether a request is allowed: by the host name that it uses, and by the service's key, if one is set.

This keeps other sites from sending browsers here, by a name of their own or from their pages.
"""

from __future__ import annotations

import hmac
import re
import socket
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from ipaddress import ip_address

from deeplabctl.errors import RecipeError
from deeplabctl.serve.uploads import RequestError

_AUTHORITY = re.compile(r"(?:\[([0-9a-fA-F:.]+)(?:%[^\s\]]+)?\]|([^\s:\[\]@/\\?#]+))(?::\d*)?")
_READING = ("GET", "HEAD", "OPTIONS")
_OPEN = ("/", "/healthz", "/openapi.json")  # and the files of the page: all that is the same for everybody


class Hosts:
    """Hold the names under which requests may come: those of this machine, and others that are allowed, with * in them.

    With ``any_address``, this machine's name and addresses in numbers may be asked for as well, as by other machines:
    what a site can let point to this service is only a name of its own (DNS rebinding).
    """

    def __init__(self, names: Iterable[str] = (), *, any_address: bool = False) -> None:
        self._names = []
        for name in names:
            if not _host_of(name):
                raise RecipeError(f"expected the name of a host such as photos.example.org, got {name!r}")
            self._names.append(_host_of(name))
        self._any_address = any_address
        if any_address:
            self._names.append(_host_of(socket.gethostname()))

    def refusal(self, method: str, headers: Mapping[bytes, bytes]) -> RequestError | None:
        """Return why a request is refused: it asks for another host, or the page of another site sent it; or None."""
        host = headers.get(b"host", b"localhost").decode("latin-1")  # HTTP/1.0, which no browser speaks, needs none
        if not (self._is_own(host) or (self._any_address and _is_address(_host_of(host)))):
            return _refused("host", host)
        site = headers.get(b"sec-fetch-site", b"").decode("latin-1")
        if method in _READING or site in ("same-origin", "none"):
            return None
        origin = headers.get(b"origin", f"({site})".encode() if site else b"").decode("latin-1")
        place = origin.partition("://")[2]
        return None if not origin or (place and place == host) or self._is_own(place) else _refused("origin", origin)

    def _is_own(self, authority: str) -> bool:
        name = _host_of(authority)
        if name == "localhost" or name.endswith(".localhost") or (_is_address(name) and ip_address(name).is_loopback):
            return True
        return bool(name) and any(fnmatchcase(name, each) for each in self._names)


def _host_of(authority: str) -> str:
    """Return the host in a Host header, in lower case, without the port and an IPv6 zone; "" for anything else."""
    found = _AUTHORITY.fullmatch(f"[{authority}]" if authority.count(":") > 1 and authority[0] != "[" else authority)
    return (found[1] or found[2]).lower().removesuffix(".") if found else ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _refused(what: str, got: str) -> RequestError:
    message = (
        f"the {what} {got[:80]!r} is not one of this service's; whoever runs it can allow a name with --allow-host"
    )
    return RequestError(403, f"{what}_not_allowed", message)


class Key:
    """Hold the key that requests must bring; the empty one is brought by all."""

    def __init__(self, key: str) -> None:
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise RecipeError("expected a key of printable ASCII characters without spaces, got others")
        self._key = key.encode()

    def refusal(self, path: str, headers: Mapping[bytes, bytes]) -> RequestError | None:
        """Return why a request is refused: it needs the key and has another or none; or None."""
        if not self._key or path in _OPEN or path.startswith("/page/"):
            return None
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        given = token.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        if hmac.compare_digest(given, self._key):  # in a time that does not tell how much of it is right
            return None
        message = "the key is not that of this service" if given else "this service needs a key"
        return RequestError(401, "wrong_key", f"{message}; send the header `Authorization: Bearer KEY`")
