"""Data in, weights out: plan a training, run it, and keep what it leaves in a run directory."""
