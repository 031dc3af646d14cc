"""Make the answers of the API, and describe their JSON for programs that read it and for the OpenAPI description."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from deeplabctl.classes import class_colors, hex_color
from deeplabctl.data.labels import mask_bytes
from deeplabctl.prediction.segmenter import count_pixels
from deeplabctl.render import overlay_png
from deeplabctl.serve.service import Segmented, Service
from deeplabctl.serve.uploads import FORMATS, RequestError
from deeplabctl.version import __version__


class ErrorFacts(BaseModel):
    """What was refused, and why."""

    code: str = Field(description="A short name that never changes.", examples=["body_too_large"])
    message: str = Field(description="One line for people: what was expected, what was found, what to do.")


class Error(BaseModel):
    """An answer to a request that was refused or failed."""

    error: ErrorFacts


class ClassFacts(BaseModel):
    """A class that the network knows."""

    id: int = Field(description="The value of its pixels in masks.")
    name: str
    color: str = Field(description="Its colour in masks and overlays.", examples=["#800000"])


class LimitFacts(BaseModel):
    """What the service accepts."""

    max_pixels: int = Field(description="Of an image.")
    max_body: int = Field(description="Bytes of a request.")
    queue: int = Field(description="Simultaneous requests for a segmentation.")
    formats: list[str] = Field(description="Media types of images.")


class Model(BaseModel):
    """The network, how it is applied, and what the service accepts."""

    version: str = Field(description="Of deeplabctl.")
    weights: str = Field(description="Name of the weight file or the run.")
    architecture: str
    width: float
    classes: list[ClassFacts]
    settings: dict[str, Any] = Field(description="How the network is applied, as `infer --json` has it.")
    crf: bool = Field(description="Whether the dense CRF is used by default.")
    offers_crf: bool = Field(description="Whether requests can ask for it.")
    limits: LimitFacts
    examples: list[str] = Field(description="Addresses of images to try, relative to the page.")


class Area(ClassFacts):
    """A class in an image."""

    pixels: int
    share: float = Field(description="Of the image's pixels, between 0 and 1.")


class Seconds(BaseModel):
    """The time that an image took."""

    waited: float = Field(description="In the queue.")
    ran: float = Field(description="Decoding, network and CRF.")


class Segmentation(BaseModel):
    """The segmentation of an image."""

    width: int = Field(description="Of the upright image, in pixels.")
    height: int
    crf: bool = Field(description="Whether the dense CRF was used.")
    classes: list[Area] = Field(description="The classes in the image, the largest first.")
    seconds: Seconds
    note: str = Field(description="What had to be assumed to read the image; empty as a rule.")
    mask: str = Field(description="The mask as a palette PNG in base64; pixel value = class id.")


class Health(BaseModel):
    """Whether the service works."""

    status: str = Field(examples=["ok"])
    waiting: int = Field(description="Images in the queue.")


def describe_model(service: Service) -> Model:
    """Return the answer that describes a service."""
    info, limits = service.info, service.limits
    return Model(
        version=__version__,
        weights=service.name,
        architecture=info.architecture,
        width=info.width,
        classes=[
            ClassFacts(id=index, name=name, color=_color(info.classes, index))
            for index, name in enumerate(info.classes)
        ],
        settings=service.settings.to_dict(),
        crf=service.uses_crf,
        offers_crf=service.offers_crf,
        limits=LimitFacts(
            max_pixels=limits.max_pixels, max_body=limits.max_body, queue=limits.queue, formats=list(FORMATS.values())
        ),
        examples=[f"examples/{number}" for number in range(len(service.examples))],
    )


def describe_error(refusal: RequestError) -> Error:
    """Return the answer to a refused request."""
    return Error(error=ErrorFacts(code=refusal.code, message=refusal.message))


def _json(result: Segmented, names: tuple[str, ...]) -> Response:
    height, width = result.label.shape
    found = Segmentation(
        width=width,
        height=height,
        crf=result.crf,
        classes=[
            Area(id=index, name=names[index], color=_color(names, index), pixels=count, share=count / result.label.size)
            for index, count in count_pixels(result.label).items()
        ],
        seconds=Seconds(waited=round(result.waited, 4), ran=round(result.ran, 4)),
        note=result.note,
        mask=base64.b64encode(mask_bytes(result.label, names)).decode("ascii"),
    )
    return JSONResponse(found.model_dump())


def _mask(result: Segmented, names: tuple[str, ...]) -> Response:
    return Response(mask_bytes(result.label, names), media_type="image/png", headers=_note(result))


def _overlay(result: Segmented, names: tuple[str, ...]) -> Response:
    drawn = overlay_png(result.image, result.label, names)
    return Response(drawn, media_type="image/png", headers=_note(result))


def _note(result: Segmented) -> dict[str, str]:
    return {"x-note": result.note.encode("ascii", "replace").decode()} if result.note else {}


# What a segmentation is answered in: a function of the result and the names of the classes. Some take a while.
ANSWERS: dict[str, Callable[[Segmented, tuple[str, ...]], Response]] = {
    "json": _json,
    "mask": _mask,
    "overlay": _overlay,
}


def _color(classes: Sequence[str], class_id: int) -> str:
    return hex_color(class_colors(classes)[class_id])
