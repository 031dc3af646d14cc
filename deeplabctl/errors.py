"""Define the errors that a user can mend.

    DeepLabError
    ├── DataError      a data set, a list file, an image or a label
    ├── RecipeError    a recipe file or a --set
    ├── WeightsError   a weight file, or one that does not fit
    └── RunError       a run directory, a training that cannot go on

Their text is one line: what failed, where, expected and got, what to do next. The command line prints it and exits
with 1. Everything else that is raised is a bug and keeps its traceback.
"""


class DeepLabError(Exception):
    """Stop because of something that the user can mend."""


class DataError(DeepLabError):
    """Refuse a data set, a list file, an image or a label."""


class RecipeError(DeepLabError):
    """Refuse a recipe or one of its settings."""


class WeightsError(DeepLabError):
    """Refuse a weight file."""


class RunError(DeepLabError):
    """Refuse a run directory or stop a training that cannot go on."""
