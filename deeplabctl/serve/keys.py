"""Answer only who knows the key, where whoever runs the service has set one."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from deeplabctl.errors import RecipeError
from deeplabctl.serve.uploads import RequestError

_OPEN = ("/", "/healthz", "/openapi.json")  # and the files of the page: all that is the same for everybody


class Key:
    """Hold the key that requests must bring; the empty one is brought by all."""

    def __init__(self, key: str = "") -> None:
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
