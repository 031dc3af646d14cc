"""Scores in, scores out: the fully connected CRF of Krähenbühl and Koltun (NIPS 2011), as the original DeepLab ran it.

Numba loads at the first refinement, not with the package.
"""

from deeplabctl.crf.mean_field import compile_kernels, refine
from deeplabctl.crf.params import PRESETS, CrfParams

__all__ = ["PRESETS", "CrfParams", "compile_kernels", "refine"]
