"""Image in by HTTP, mask out: a page for people and an API for programs, around one network.

The files in here need the extra ``serve`` (FastAPI, uvicorn), so only the body of the command imports them; its help
shows the limits without them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Hold what a service accepts; whatever is beyond is refused before it takes memory."""

    max_pixels: int = 4_000_000  # of an image
    max_body: int = 20 << 20  # bytes of a request
    queue: int = 16  # requests for a segmentation at once: uploading, waiting, running
    timeout: float = 60  # seconds for a request to arrive, and for its turn to come
    connections: int = 256  # at once
