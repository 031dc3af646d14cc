"""Labels in, annotations of other programs out: the way back from `deeplabctl.data.importing`."""
