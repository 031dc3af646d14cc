"""Name the number formats that a network can compute in."""

from __future__ import annotations

from typing import Literal

Precision = Literal["float32", "bfloat16", "float16"]

# Keras' policies: variables stay float32, and so do the loss and the updates of a training.
POLICIES: dict[Precision, str] = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
