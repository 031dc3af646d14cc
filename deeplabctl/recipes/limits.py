"""List what the values of a recipe may be, and read those that stand for others."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from deeplabctl.crf.params import LIMITS as CRF_LIMITS
from deeplabctl.network import ARCHITECTURES, DEFAULT_ARCHITECTURE


class _Auto(int):
    """Stand for a number that is found out when the training is planned; in a recipe it is written "auto"."""


AUTO = _Auto(-1)
MAY_BE_AUTO = ("augment.crop_size", "solver.steps", "run.val_every", "run.save_every", "run.preview_every")


def parse_duration(text: str) -> float:
    """Return the seconds of a time such as 90s, 45m or 1h30m; 0 for any other text."""
    parts = re.fullmatch(r"(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?", text.strip())
    hours, minutes, seconds = (int(part or 0) for part in parts.groups()) if parts else (0, 0, 0)
    return 3600.0 * hours + 60 * minutes + seconds


def _are_class_weights(value: str | tuple[float, ...]) -> bool:
    return isinstance(value, str) or (all(0 <= weight < math.inf for weight in value) and sum(value) > 0)


_Check = Callable[[Any], bool]
# Section, setting, whether a value is allowed, and the values that are, in words.
LIMITS: tuple[tuple[str, str, _Check, str], ...] = (
    ("model", "architecture", ARCHITECTURES.__contains__, f"one of {', '.join(ARCHITECTURES)}"),
    ("model", "width", lambda v: 0 < v <= 4, "a number above 0, at most 4"),
    ("model", "dropout", lambda v: 0 <= v < 1, "a share of at least 0 and below 1"),
    (
        "augment",
        "crop_size",
        lambda v: v is AUTO or ARCHITECTURES[DEFAULT_ARCHITECTURE].is_crop_size(v),
        "8k + 1 pixels (161, 321, 513, ...), so that labels lie on the logits",
    ),
    ("augment", "scale", lambda v: 0 < v[0] <= v[1] <= 16, "[smallest, largest] above 0, at most 16"),
    ("augment", "scales", lambda v: all(0 < scale <= 16 for scale in v), "numbers above 0, at most 16"),
    *(
        ("augment", key, lambda v: 0 <= v < 1, "a share of at least 0 and below 1")
        for key in ("jitter", "contrast", "saturation", "channel_gain")
    ),
    ("augment", "gamma", lambda v: 0 <= v <= 2, "0 to 2"),
    ("augment", "class_crops", lambda v: 0 <= v <= 1, "a share of 0 to 1"),
    ("solver", "learning_rate", lambda v: 0 < v < math.inf, "a number above 0"),
    ("solver", "power", lambda v: 0 <= v < math.inf, "at least 0"),
    ("solver", "gamma", lambda v: 0 < v <= 1, "a factor above 0, at most 1"),
    ("solver", "momentum", lambda v: 0 <= v < 1, "at least 0 and below 1"),
    ("solver", "weight_decay", lambda v: 0 <= v < math.inf, "at least 0"),
    ("solver", "head_multiplier", lambda v: 0 <= v < math.inf, "at least 0"),
    ("solver", "new_layer_multiplier", lambda v: 0 <= v < math.inf, "at least 0"),
    ("solver", "gradient_clip", lambda v: 0 <= v < math.inf, "at least 0"),
    (
        "solver",
        "class_weights",
        _are_class_weights,
        "none, median, sqrt-median, or numbers of at least 0 that are not all 0",
    ),
    ("solver", "label_stride", lambda v: v in (1, 2, 4, 8), "1, 2, 4 or 8"),
    ("solver", "average", lambda v: 0 <= v < 1, "a decay of at least 0 and below 1"),
    ("solver", "hard_pixels", lambda v: 0 < v <= 1, "a share above 0, at most 1"),
    *(("solver", key, lambda v: v >= 0, "at least 0") for key in ("warmup_steps", "patience", "freeze_steps")),
    *(("solver", key, lambda v: v >= 1, "at least 1") for key in ("step_size", "batch_size", "accumulate")),
    ("solver", "steps", lambda v: v is AUTO or v >= 1, "at least 1"),
    ("run", "log_every", lambda v: v >= 1, "at least 1"),
    *(
        ("run", key, lambda v: v is AUTO or v >= 1, "at least 1")
        for key in ("val_every", "save_every", "preview_every")
    ),
    ("run", "time", lambda v: not v or parse_duration(v) > 0, "a time, as 90s, 45m or 1h30m"),
    ("eval", "scales", lambda v: all(0 < scale <= 4 for scale in v), "numbers above 0, at most 4"),
    *(("crf", *limit) for limit in CRF_LIMITS),
    ("run", "seed", lambda v: 0 <= v < 2**31, "0 to 2147483647"),
)
