"""Define the errors that a user can fix.

    DeepLabError
    ├── DataError      a data set, a list file, an image or a label
    │   └── LogitsError    logits of an image that are not finite
    ├── OutputError    a file or folder that cannot be written, or exists already
    ├── DownloadError  a file that could not be downloaded from any address
    ├── RecipeError    a recipe file or one of its settings
    ├── WeightsError   a weight file, or one that does not fit
    └── RunError       a run directory, a training that cannot go on

Their text is one line: what failed, where, expected and got, what to do next. The command line prints it and exits
with 1. Everything else that is raised is a bug and keeps its traceback.

A text names arguments in backquotes, as Python knows them: `overwrite`, `init=random`. The command line turns these
into its options: --overwrite, --init random.
"""

_LONGEST = 3000  # characters of a message


def printable(text: str) -> str:
    """Return a text with escapes for what would break a line, or act on a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


class DeepLabError(Exception):
    """Stop because of something that the user can fix.

    A message may quote files from anywhere: what would break the line, or act on a terminal, is written as an escape.
    """

    def __init__(self, message: str) -> None:
        line = printable(message)
        super().__init__(line if len(line) <= _LONGEST else f"{line[: _LONGEST - 500]} ... {line[-490:]}")


class DataError(DeepLabError):
    """Refuse a data set, a list file, an image or a label."""


class LogitsError(DataError):
    """Find logits of an image that are not finite: the weights are at fault, or the precision."""


class OutputError(DeepLabError):
    """Refuse to write a file or a folder, or fail to."""


class DownloadError(DeepLabError):
    """Find no address that has a file."""


class RecipeError(DeepLabError):
    """Refuse a recipe or one of its settings."""


class WeightsError(DeepLabError):
    """Refuse a weight file."""


class RunError(DeepLabError):
    """Refuse a run directory or stop a training that cannot go on."""
