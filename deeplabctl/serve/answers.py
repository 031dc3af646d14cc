"""Describe the JSON of the API, for programs that read it and for the OpenAPI description."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from deeplabctl.classes import IGNORE_LABEL, voc_palette
from deeplabctl.serve.pictures import encode_mask
from deeplabctl.serve.request_error import RequestError
from deeplabctl.serve.worker import Segmented


class ErrorFacts(BaseModel):
    """What was refused, and why."""

    code: str = Field(description="A short name that stays the same.", examples=["body_too_large"])
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

    max_pixels: int = Field(description="Of a picture.")
    max_body: int = Field(description="Bytes of a request.")
    queue: int = Field(description="Requests for a segmentation at once.")
    formats: list[str] = Field(description="Media types of pictures.")


class Model(BaseModel):
    """The network, how it is applied, and what the service accepts."""

    version: str = Field(description="Of deeplabctl.")
    weights: str = Field(description="Name of the weight file or the run.")
    architecture: str
    width: float
    classes: list[ClassFacts]
    settings: dict[str, Any] = Field(description="How the network is applied, as `infer --json` has it.")
    crf: bool = Field(description="Whether the dense CRF is used by default.")
    limits: LimitFacts
    examples: list[str] = Field(description="Paths of pictures to try.")


class Area(ClassFacts):
    """A class in a picture."""

    pixels: int
    share: float = Field(description="Of the picture's pixels, between 0 and 1.")


class Seconds(BaseModel):
    """The time that a picture took."""

    waited: float = Field(description="In the queue.")
    ran: float = Field(description="Decoding, network and CRF.")


class Segmentation(BaseModel):
    """What is seen in a picture."""

    width: int = Field(description="Of the upright picture, in pixels.")
    height: int
    crf: bool = Field(description="Whether the dense CRF was used.")
    classes: list[Area] = Field(description="The classes in the picture, the largest first.")
    seconds: Seconds
    mask: str = Field(description="The mask as a palette PNG in base64; pixel value = class id.")


class Health(BaseModel):
    """Whether the service works."""

    status: str = Field(examples=["ok"])
    waiting: int = Field(description="Pictures in the queue.")


def color_of(class_id: int) -> str:
    """Return the colour of a class as "#rrggbb"."""
    red, green, blue = voc_palette()[class_id]
    return f"#{red:02x}{green:02x}{blue:02x}"


def class_facts(names: tuple[str, ...]) -> list[ClassFacts]:
    """Return the classes of a network."""
    return [ClassFacts(id=index, name=name, color=color_of(index)) for index, name in enumerate(names)]


def segmentation(result: Segmented, names: tuple[str, ...]) -> Segmentation:
    """Return what is seen in a picture."""
    height, width = result.label.shape
    counts = np.bincount(result.label.ravel(), minlength=IGNORE_LABEL + 1)
    areas = [
        Area(
            id=index, name=names[index], color=color_of(index), pixels=counts[index], share=counts[index] / counts.sum()
        )
        for index in map(int, np.argsort(-counts, kind="stable"))
        if counts[index]
    ]
    return Segmentation(
        width=width,
        height=height,
        crf=result.crf,
        classes=areas,
        seconds=Seconds(waited=round(result.waited, 4), ran=round(result.ran, 4)),
        mask=base64.b64encode(encode_mask(result.label)).decode("ascii"),
    )


def error(refusal: RequestError) -> Error:
    """Return the answer to a refused request."""
    return Error(error=ErrorFacts(code=refusal.code, message=refusal.message))
