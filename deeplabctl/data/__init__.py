"""Data sets in VOC layout in, samples out: images, labels, statistics, and everything that is wrong with them.

`dataset.open_dataset` opens a data set, `images.as_image` takes an image in any form, `check.check_dataset` checks a
data set; `convert` makes one of other programs' annotations (``formats``), `augmented_voc` the papers'.
"""
