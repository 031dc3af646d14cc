"""Refuse a request: with an HTTP status, a code for programs and a line for people."""

from __future__ import annotations


class RequestError(Exception):
    """Refuse a request that cannot be done, or not now.

    ``status`` is that of HTTP, ``code`` a short name that stays the same, ``message`` one line. ``retry_after`` are the
    seconds after which the same request may succeed; None if it never will.
    """

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after
