"""Find weight files, also published ones by name, and open them: recognized by their content."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

from deeplabctl.damage import DAMAGED
from deeplabctl.errors import WeightsError
from deeplabctl.files import is_hidden, web_address
from deeplabctl.reporting import Note, Reporter, tqdm_reporter
from deeplabctl.run_layout import BEST, LAST, RECIPE
from deeplabctl.weights import hub
from deeplabctl.weights.published import guess_name, imagenet, published
from deeplabctl.weights.sources import SOURCES
from deeplabctl.weights.sources.exports import is_saved_model
from deeplabctl.weights.weight_file import ZIP, Beginning, WeightFile

# What people give instead of a weight file, by its first bytes, and what to do then.
_WRONG = (
    (rb"\xff\xd8\xff", "a JPEG image"),
    (rb"\x89PNG", "a PNG image"),
    (rb"GIF8", "a GIF image"),
    (rb"(?s)PK\x03\x04.{26}__facts__", "a checkpoint of a training; name the run directory, which has its weights"),
    (rb"PK\x03\x04", "a zip archive; unpack it first"),
    (rb"\x1f\x8b", "a gzip archive, but not a .tar.gz; unpack it first"),
    (rb"BZh|\xfd7zXZ|Rar!|7z\xbc\xaf", "a packed archive; unpack it first"),
    (rb"(?s).{257}ustar", "a tar archive that is not packed; give the .tar.gz, or unpack it and name the file"),
    (rb"\x93NUMPY", "a file of NumPy (.npy)"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself; fetch it with: git lfs pull"),
    (rb"(?is)\s*<\?xml", "an XML file, such as a server's error message, or a network of OpenVINO without its weights"),
    (rb"(?is)\s*(<!doctype|<html|<head)", "a web page, perhaps an error message of the server; download it again"),
    (
        rb"(?s)(\s*#[^\n]*\n)*\s*(name|layers?|input|input_dim|force_backward)\s*[:{]",
        "a prototxt: the net's definition without weights; give the .caffemodel",
    ),
    (rb"\s*\{", "a JSON text"),
    (rb"%PDF", "a PDF"),
    (rb"[^\x00-\x08\x0e-\x1f]+\Z", "a text file, perhaps a list"),
    (rb"", "an unknown format"),
)


def find_weights(
    given: str | None,
    runs: Path = Path("runs"),
    *,
    default: str | None = None,
    report: Reporter | None = None,
) -> Path:
    """Return the weight file: as given, else the best of the newest run in ``runs``, else the ``default``.

    What is given is for `weights_path`, as is ``report``; the default is the name of published weights.
    """
    if given:
        return weights_path(Path(given), report)
    found = [
        path.parent for path in runs.glob(f"*/{RECIPE}") if any((path.parent / name).is_file() for name in (BEST, LAST))
    ]
    if found:
        return weights_path(max(found, key=lambda run: (run / RECIPE).stat().st_mtime_ns))
    if default is not None and default in published():
        if report is not None:
            report(Note(f"no weights are named, and there are no runs: using the published {default}"))
        return fetch_published(default, report)
    raise WeightsError(
        "there are no weights: train some (deeplabctl train), name a file, a run directory or published weights "
        "(`weights=FILE`; deeplabctl weights lists them), or set $DEEPLABCTL_WEIGHTS"
    )


def weights_path(path: Path, report: Reporter | None = None) -> Path:
    """Return the weight file at a path: the path itself, also a SavedModel's, or that in a folder.

    Of a run directory it is the best file; any other folder must have one weight file or export.

    Where there is nothing at the path, it may be the name of published weights. These are fetched into the user's cache
    unless they are there; the progress goes to ``report``, or is shown by tqdm; hf://user/name is on the Hugging Face
    hub. Raises DownloadError, OutputError and WeightsError as `PublishedWeights.fetch` does.
    """
    name = path.as_posix()
    if address := web_address(path):
        raise WeightsError(
            f"weights {address}: expected a file, got an address ({address.partition(':')[0]}); download it, and name "
            "the file"
        )
    if (place := hub.HubAddress.read(name)) is not None:
        return hub.fetch(place, report or tqdm_reporter())
    if name in published() and not os.path.lexists(path):
        return fetch_published(name, report)
    if name in published() and report is not None:
        report(Note(f"{path} is used, not the published weights of the same name"))
    if not os.path.isdir(path) or is_saved_model(path):  # noqa: PTH112 - Path.is_dir raises for names that are too long
        return path
    for name in (BEST, LAST):
        if (path / name).is_file():
            return path / name
    files = [each for each in sorted(path.glob("*")) if not is_hidden(each.name)]  # as killed processes leave them
    found = [each for each in files if each.suffix in hub.SUFFIXES or is_saved_model(each)]
    found = found or [each for each in files if each.name in hub.PREFERRED]
    if len(found) == 1:
        return found[0]
    got = f"{len(found)} ({', '.join(each.name for each in found[:5])}); name one" if found else "another folder"
    raise WeightsError(f"weights {path}: expected a run directory with {BEST}, or one weight file in it, got {got}")


def fetch_published(name: str, report: Reporter | None = None) -> Path:
    """Return the file of published weights, whatever has their name here; the rest is as for `weights_path`."""
    return published()[name].fetch(report or tqdm_reporter(), _open_file)


def fetch_imagenet(name: str, report: Reporter | None = None) -> Path:
    """Return the file of ImageNet's weights for a network of keras.applications, as `fetch_published` does.

    The one that Keras has downloaded is taken as well.
    """
    weights = imagenet()[name]
    kept = Path(os.path.expanduser("~/.keras/models"), weights.file)  # noqa: PTH111 - Path's raises without a home
    return weights.fetch(report or tqdm_reporter(), _open_file, kept)


def open_weights(path: str | os.PathLike[str]) -> WeightFile:
    """Open a weight file of any kind, the best one of a run directory, or published weights by name.

    A TensorFlow checkpoint may be given by its prefix or any of its files; a SavedModel is a folder. Raises
    WeightsError, which says what the file is, for a file without weights, and what `weights_path` raises.
    """
    return _open_file(weights_path(Path(path)))


def _open_file(path: Path) -> WeightFile:
    start = _beginning(path)
    for kind in SOURCES:
        if kind.recognises(start):
            return kind(path)
    if re.search(r"\.(meta|data-\d{5}-of-\d{5})$", path.name) and path.is_file():
        raise _wrong(path, "a part of a TensorFlow checkpoint without its .index; keep its files together")
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises OSError for a name that is too long
        raise WeightsError(f"weights {path}: there is no such file{guess_name(path.name)}")
    if not path.is_file():
        got = "a folder" if path.is_dir() else "a pipe or a device"
        raise WeightsError(f"weights {path}: expected a file, got {got}; choose the file of the weights")
    if not start.head:
        raise _wrong(path, "an empty file; download or copy it again")
    raise _wrong(path, next(what for pattern, what in _WRONG if re.match(pattern, start.head)))


def _beginning(path: Path) -> Beginning:
    """Read what the kind of a file is recognized by; only of files, as reading a pipe would take its bytes away."""
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for names that are too long
        return Beginning(path, b"", frozenset())
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise WeightsError(f"weights {path}: cannot be read ({error.strerror})") from None
    if not head.startswith(ZIP):
        return Beginning(path, head, frozenset())
    try:
        with zipfile.ZipFile(path) as archive:
            return Beginning(path, head, frozenset(archive.namelist()))
    except DAMAGED:
        raise _wrong(path, "a zip archive that is damaged or truncated; download or copy it again") from None


def _wrong(path: Path, what: str) -> WeightsError:
    return WeightsError(
        f"weights {path}: expected a model file (.keras), a run directory, a .caffemodel, a TensorFlow checkpoint, "
        f"frozen graph or archive, a weight pickle, a .pth, safetensors, Keras weights or an export, got {what}"
    )
