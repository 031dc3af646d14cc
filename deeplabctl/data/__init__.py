"""Data sets in VOC layout in, samples out: images, labels, statistics, and everything that is wrong with them.

`dataset.open_dataset` opens a data set, `locate.find_dataset` also finds the built-in one, `images.as_image` takes an
image in any form, `check.check_dataset` checks a data set; ``importing`` and ``voc`` make data sets.
"""
