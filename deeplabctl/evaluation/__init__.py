"""Labels and predictions in, scores out: of an image, of a split, of a network, of masks that anyone made."""
