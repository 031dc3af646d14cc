"""List the choices of an import. Loads nothing, so that the command line can offer them in its help."""

from __future__ import annotations

from typing import Literal

MaskFormat = Literal["colors", "ids", "binary"]
Format = Literal["auto", MaskFormat, "coco", "labelme", "cvat"]
Outside = Literal["background", "void"]
UnknownColors = Literal["error", "void"]
