"""Build the web application: the page, the API and its description, health and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from deeplabctl.render import overlay_with_legend
from deeplabctl.serve import answers
from deeplabctl.serve.metrics import CONTENT_TYPE
from deeplabctl.serve.middleware import Middleware
from deeplabctl.serve.pictures import FORMATS, encode_mask, encode_picture
from deeplabctl.serve.request_error import RequestError
from deeplabctl.serve.service import Service
from deeplabctl.serve.uploads import FIELD
from deeplabctl.version import __version__

_DESCRIPTION = "Semantic segmentation of pictures: a class for every pixel."
_PICTURE: dict[str, Any] = {"type": "string", "format": "binary"}
_FORM = {
    "schema": {"type": "object", "properties": {FIELD: _PICTURE}, "required": [FIELD]},
    "encoding": {FIELD: {"contentType": ", ".join(FORMATS.values())}},
}
_BODY = {
    "required": True,
    "description": f"A picture: as the whole body, or as the file {FIELD!r} of a form.",
    "content": {
        **{kind: {"schema": _PICTURE} for kind in (*FORMATS.values(), "application/octet-stream")},
        "multipart/form-data": _FORM,
    },
}
_REFUSALS = {
    408: "The request did not arrive in time.",
    413: "The request is too large.",
    415: "It holds no picture of a known format.",
    422: "The picture or a parameter cannot be used.",
    429: "All places of the queue are taken.",
    503: "The picture's turn did not come in time, or the network does not run.",
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": answers.Segmentation,
        "description": "What is seen in the picture, its mask, or the picture with the mask over it.",
        "content": {"image/png": {"schema": _PICTURE}},
    },
    **{status: {"model": answers.Error, "description": text} for status, text in _REFUSALS.items()},
}
_MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_CODES = {404: "not_found", 405: "method_not_allowed"}


def build_application(service: Service) -> FastAPI:
    """Return the application of a service; its network runs from the application's start to its end."""

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        service.worker.start()
        yield
        await asyncio.to_thread(service.worker.stop)

    app = FastAPI(
        title="deeplabctl serve", version=__version__, description=_DESCRIPTION, lifespan=running, docs_url=None,
        redoc_url=None,
    )  # fmt: skip
    _add_api(app, service)
    _add_state(app, service)
    _add_page(app, service)
    app.add_middleware(Middleware, metrics=service.metrics)
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _failed)
    return app


def _add_api(app: FastAPI, service: Service) -> None:
    @app.post(
        "/api/segment", tags=["segmentation"], summary="Segment a picture", openapi_extra={"requestBody": _BODY},
        responses=_RESPONSES, response_model=None,
    )  # fmt: skip
    async def segment(
        request: Request,
        crf: Annotated[bool | None, Query(description="Sharpen the result with the dense CRF.")] = None,
        format: Annotated[  # noqa: A002 - the name in the API
            Literal["json", "mask", "overlay"],
            Query(description="json: areas and mask; mask: the PNG that `infer` writes; overlay: that of --overlay."),
        ] = "json",
    ) -> Response:
        result = await service.segment(request, crf=crf)
        if format == "json":
            facts = await asyncio.to_thread(answers.segmentation, result, service.classes)
            return JSONResponse(facts.model_dump())
        if format == "mask":
            content = await asyncio.to_thread(encode_mask, result.label)
        else:
            drawn = await asyncio.to_thread(overlay_with_legend, result.image, result.label, service.classes)
            content = await asyncio.to_thread(encode_picture, drawn)
        return Response(content, media_type="image/png")

    @app.get("/api/model", tags=["segmentation"], summary="Describe the network and the limits")
    async def model() -> answers.Model:
        return service.model


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get(
        "/healthz", tags=["operation"], summary="Tell whether the service works", response_model=answers.Health,
        responses={503: {"model": answers.Health, "description": "The network does not run."}},
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
        if not number.isdecimal() or int(number[:9]) >= len(service.examples):
            raise HTTPException(404)
        found = service.examples[int(number[:9])]
        return Response(found.content, media_type=found.media_type)


async def _refused(request: Request, refusal: Exception) -> JSONResponse:
    assert isinstance(refusal, RequestError)
    headers = {} if refusal.retry_after is None else {"retry-after": str(refusal.retry_after)}
    if refusal.status in (408, 413):  # the rest of the body is not read
        headers["connection"] = "close"
    return JSONResponse(answers.error(refusal).model_dump(), refusal.status, headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return await _refused(request, RequestError(422, "invalid_parameter", f"{where}: {first['msg']}"))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "bad_request")
    answer = await _refused(request, RequestError(error.status_code, code, error.detail))
    answer.headers.update(error.headers or {})
    return answer


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # which only the metrics see


async def _failed(request: Request, error: Exception) -> JSONResponse:
    message = "the service failed; whoever runs it finds the reason in its output"
    return await _refused(request, RequestError(500, "internal_error", message))
