"""Annotations of other programs in, a data set out."""
