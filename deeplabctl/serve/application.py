"""Build the web application: the API and its description, health and metrics, the page, and the error answers."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deeplabctl.serve import answers
from deeplabctl.serve.access import Hosts, Key
from deeplabctl.serve.metrics import CONTENT_TYPE, Metrics
from deeplabctl.serve.service import Service
from deeplabctl.serve.uploads import BYTES_TYPE, FIELD, FORM_TYPE, FORMATS, Parameters, RequestError
from deeplabctl.version import __version__

_DESCRIPTION = "Semantic segmentation of images: a class for every pixel."
_IMAGE: dict[str, Any] = {"type": "string", "format": "binary"}
_FORM = {
    "schema": {"type": "object", "properties": {FIELD: _IMAGE}, "required": [FIELD]},
    "encoding": {FIELD: {"contentType": ", ".join(FORMATS.values())}},
}
_BODY = {
    "required": True,
    "description": f"An image: as the whole body, or as the file {FIELD!r} of a form.",
    "content": {
        **{kind: {"schema": _IMAGE} for kind in (*FORMATS.values(), BYTES_TYPE)},
        FORM_TYPE: _FORM,
    },
}
_REFUSALS = {
    401: "The service has a key, and the request has another or none.",
    403: "The request is for another host, or from a page of another site.",
    408: "The request did not arrive in time.",
    413: "The request is too large.",
    415: "The request has no image of a known format.",
    422: "The image or a parameter cannot be used.",
    429: "The queue is full.",
    503: "The image's turn did not come in time, or the network is not running.",
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": answers.Segmentation,
        "description": "The classes in the image, its mask, or the image with the mask over it.",
        "content": {"image/png": {"schema": _IMAGE}},
        "headers": {
            "x-note": {
                "description": "Of a PNG: what had to be assumed to read the image, if anything.",
                "schema": {"type": "string"},
            }
        },
    },
    **{status: {"model": answers.Error, "description": text} for status, text in _REFUSALS.items()},
}
_MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_URL = re.compile(r"https?://([^/]*)(/.*)?", re.IGNORECASE | re.DOTALL)
_CODES = {404: "not_found", 405: "method_not_allowed"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SECURITY_HEADERS = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_SECURITY = [(name.encode(), value.encode()) for name, value in _SECURITY_HEADERS.items()]


def build_application(service: Service, hosts: Hosts, root_path: str, key: Key) -> FastAPI:
    """Return the application of a service under its names; its network runs from the application's start to its end.

    Who has the ``key`` is answered. ``root_path`` is where a proxy shows it, as "/photos", whether the proxy passes
    that on or takes it off.
    """

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        service.worker.start()
        yield
        await asyncio.to_thread(service.worker.stop)

    app = FastAPI(
        title="deeplabctl serve", version=__version__, description=_DESCRIPTION, lifespan=running, docs_url=None,
        redoc_url=None, servers=[{"url": root_path}] if root_path else None, redirect_slashes=False,
    )  # fmt: skip
    _add_api(app, service)
    _add_state(app, service)
    _add_page(app, service)
    app.add_middleware(_Middleware, metrics=service.metrics, hosts=hosts, root_path=root_path, key=key)
    for kind in (RequestError, RequestValidationError, HTTPException, ClientDisconnect):
        app.add_exception_handler(kind, _answer_error)
    return app


def _add_api(app: FastAPI, service: Service) -> None:
    @app.post(
        "/api/segment", tags=["segmentation"], summary="Segment an image", openapi_extra={"requestBody": _BODY},
        responses=_RESPONSES, response_model=None,
    )  # fmt: skip
    async def segment(request: Request, parameters: Annotated[Parameters, Query()]) -> Response:
        for name in Parameters.model_fields:
            if (count := len(request.query_params.getlist(name))) > 1:
                raise RequestError(422, "invalid_parameter", f"expected {name} once, got it {count} times")
        result = await service.segment(request, crf=parameters.crf)
        return await asyncio.to_thread(answers.ANSWERS[parameters.format], result, service.info.classes)

    @app.get("/api/model", tags=["segmentation"], summary="Describe the network and the limits")
    async def model() -> answers.Model:
        return answers.describe_model(service)


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get(
        "/healthz", tags=["operation"], summary="Tell whether the service works", response_model=answers.Health,
        responses={503: {"model": answers.Health, "description": "The network is not running."}},
    )  # fmt: skip
    async def health() -> JSONResponse:
        alive = service.worker.alive
        facts = answers.Health(status="ok" if alive else "stopped", waiting=service.worker.waiting)
        return JSONResponse(facts.model_dump(), 200 if alive else 503)

    @app.get(
        "/metrics", tags=["operation"], summary="Numbers for Prometheus", response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )  # fmt: skip
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _add_page(app: FastAPI, service: Service) -> None:
    """Serve the page's files and the examples from memory: no path of a request becomes one of the disk."""
    folder = resources.files("deeplabctl.serve") / "page"
    files = {entry.name: entry.read_bytes() for entry in folder.iterdir()}
    examples = {str(number): example for number, example in enumerate(service.examples)}

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(files["index.html"], media_type=_MEDIA_TYPES["html"])

    @app.get("/page/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        return Response(files[name], media_type=_MEDIA_TYPES[name.rpartition(".")[2]])

    @app.get("/examples/{number}", include_in_schema=False)
    async def example(number: str) -> Response:
        if number not in examples:
            raise HTTPException(404)
        return Response(examples[number].content, media_type=examples[number].media_type)


async def _answer_error(request: Request, error: Exception) -> Response:
    """Return the answer to a request that was refused or failed."""
    headers: dict[str, str] = {}
    match error:
        case RequestError():
            refusal = error
        case RequestValidationError():
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"][1:])
            expected = first.get("ctx", {}).get("expected", "true or false")
            message = f"{where}: expected {expected}, got {first['input']!r:.80}"
            if first["type"] == "extra_forbidden":
                message = f"expected the parameters {' and '.join(Parameters.model_fields)}, got {where!r:.80}"
            refusal = RequestError(422, "invalid_parameter", message)
        case HTTPException():
            code = _CODES.get(error.status_code, "bad_request")
            refusal = RequestError(error.status_code, code, error.detail)
            headers.update({name.lower(): value for name, value in (error.headers or {}).items()})
            if headers.get("allow") == "GET":
                headers["allow"] = "GET, HEAD"
        case ClientDisconnect():
            return Response(status_code=499)  # which only the metrics see
        case _:
            message = "the service failed; whoever runs it finds the reason in its output"
            refusal = RequestError(500, "internal_error", message)
    return _refusal_answer(refusal, headers)


def _refusal_answer(refusal: RequestError, headers: dict[str, str]) -> Response:
    if refusal.retry_after is not None:
        headers["retry-after"] = str(refusal.retry_after)
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    if refusal.status in (408, 413):  # the rest of the body is not read
        headers["connection"] = "close"
    return JSONResponse(answers.describe_error(refusal).model_dump(), refusal.status, headers)


class _Middleware:
    """Check for whom a request is, and its key; add headers that let a page load nothing from elsewhere; count answers.

    HEAD is answered as GET, without the body, and a whole URL as its path, as HTTP/1.1 wants both. The prefix of a
    proxy is taken off.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, hosts: Hosts, root_path: str, key: Key) -> None:
        self._app, self._metrics, self._hosts, self._root, self._key = app, metrics, hosts, root_path, key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status, method = time.perf_counter(), 0, scope["method"]
        headers = dict(scope["headers"])
        if url := _URL.fullmatch(scope["path"]):
            headers[b"host"] = url[1].encode()
            scope = {**scope, "path": url[2] or "/"}
        is_root = bool(self._root) and scope["path"] == self._root
        if self._root and scope["path"].startswith(f"{self._root}/"):
            scope = {**scope, "path": scope["path"].removeprefix(self._root)}
        app = self._app
        path = "/" if is_root else scope["path"]
        if refusal := self._hosts.refusal(method, headers) or self._key.refusal(path, headers):
            app = _refusal_answer(refusal, {})
        elif is_root:  # the page's addresses are relative, so it needs the slash
            app = RedirectResponse(f"{self._root}/", 308)
        elif method == "HEAD":
            scope = {**scope, "method": "GET"}

        async def send_more(message: Message) -> None:
            nonlocal status
            if method == "HEAD" and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", []), *_SECURITY]
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": headers}
            await send(message)

        try:
            await app(scope, receive, send_more)
        except Exception as error:
            if not status:
                answer = await _answer_error(Request(scope), error)
                await answer(scope, receive, send_more)
            raise  # the server prints it
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.answered(method, route, status or 499, time.perf_counter() - begin)
