"""Options of a training that takes seconds."""

SMALL = [
    "--recipe", "shapes", "--width", "0.05", "--crop-size", "33", "--batch-size", "2",
    "--set", "run.val_every=4", "--set", "run.preview_every=4", "--set", "run.log_every=2",
]  # fmt: skip
