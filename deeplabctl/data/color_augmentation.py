"""Change the light and the colours of an image, as other weather, daytimes and cameras would."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deeplabctl.arrays import Image

_LUMA = np.array((0.299, 0.587, 0.114), np.float32)  # of R, G and B in grey (ITU-R BT.601)
_LEVELS = np.arange(256, dtype=np.float32)


@dataclass(frozen=True)
class ColorChange:
    """Hold the factors of a change; those of this default change nothing."""

    brightness: float = 1.0  # multiplies all channels
    gamma: float = 1.0  # exponent of the values as shares of 255: below 1 brightens dark parts most
    contrast: float = 1.0  # multiplies the distance from the image's mean grey
    saturation: float = 1.0  # multiplies the distance from the pixel's own grey; 0 is a grey image
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)  # multiply R, G and B

    def apply(self, image: Image) -> Image:
        """Return a changed image (H, W, 3) uint8 RGB: gamma, brightness and gains, then contrast, then saturation.

        Values are clipped to 0..255 and rounded once, at the end.
        """
        if self == ColorChange():
            return image
        factors = np.float32(self.brightness) * np.array(self.gains, np.float32)
        curve = _LEVELS if self.gamma == 1 else 255 * (_LEVELS / 255) ** np.float32(self.gamma)
        changed = (curve[:, None] * factors)[image, np.arange(3)]
        if self.contrast != 1:
            mean = (changed @ _LUMA).mean()
            changed = mean + np.float32(self.contrast) * (changed - mean)
        if self.saturation != 1:
            grey = (changed @ _LUMA)[..., None]
            changed = grey + np.float32(self.saturation) * (changed - grey)
        return np.clip(np.rint(changed), 0, 255).astype(np.uint8)
