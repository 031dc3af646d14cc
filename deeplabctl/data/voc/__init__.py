"""The archives of PASCAL VOC 2012 and SBD in, the augmented data set of the papers out.

`download.download` gets the archives, `merge.prepare_voc` merges them.
"""
