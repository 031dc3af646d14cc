"""The archives of PASCAL VOC 2012 and SBD in, the papers' augmented data set out."""
