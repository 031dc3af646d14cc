"""Masks and annotations of other programs in, a data set in VOC layout out.

`formats.read_annotations` reads a source, `convert.write_dataset` writes the data set.
"""
