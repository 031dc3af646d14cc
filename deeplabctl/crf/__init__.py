"""Refine scores with the fully connected CRF of Krähenbühl and Koltun (NIPS 2011), as the original DeepLab ran it."""
