"""Files in, arrays out: tell what a weight file is, read it, fit it to an architecture, and write model files."""
