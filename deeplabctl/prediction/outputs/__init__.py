"""Labels in, files out: what is written of each picture, and of a whole run."""
