"""Fetch weights from the Hugging Face hub by hf://user/name, and publish a model file there with its card."""

from __future__ import annotations

import errno
import json
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from deeplabctl.errors import DownloadError, WeightsError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.reporting import Note, Reporter
from deeplabctl.run_layout import BEST
from deeplabctl.version import __version__
from deeplabctl.weights.model_info import ModelInfo
from deeplabctl.weights.sources import SOURCES
from deeplabctl.weights.sources.torch_names import CONFIG

# Of several files of weights in a repository the first of these, else the only one with such a suffix.
PREFERRED = (BEST, "model.safetensors", "pytorch_model.bin")
SUFFIXES = tuple(kind.suffix for kind in SOURCES if kind.suffix)
_REPO = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_ADDRESS = re.compile(rf"hf:/{{1,2}}({_REPO})(?:@([\w.-]+))?(?:/([^@]+))?", re.ASCII)  # a Path has one slash


@dataclass(frozen=True)
class HubAddress:
    """Hold the parts of hf://user/name[@revision][/file]; None for what is not said."""

    repo: str
    revision: str | None
    file: str | None

    @classmethod
    def read(cls, text: str) -> HubAddress | None:
        """Return the parts of an address, None for a text that is none; raises WeightsError for one that is wrong."""
        if not text.startswith("hf:/"):
            return None
        found = _ADDRESS.fullmatch(text.rstrip("/"))
        if found is None or ".." in PurePosixPath(found[3] or "").parts:
            raise WeightsError(
                f"weights {text}: expected hf://USER/NAME, hf://USER/NAME/FILE or hf://USER/NAME@REVISION"
            )
        return cls(found[1], found[2], found[3])

    def __str__(self) -> str:
        revision, file = f"@{self.revision}" if self.revision else "", f"/{self.file}" if self.file else ""
        return f"hf://{self.repo}{revision}{file}"


def fetch(address: HubAddress, report: Reporter) -> Path:
    """Return the file of an address in the hub's cache on this machine, fetched if it is not there.

    Without a connection, what the cache has of the address is taken. Nothing of a file is run: it is read as any weight
    file. Raises WeightsError where the repository has no such file, and DownloadError if it cannot be fetched.
    """
    hub = _package(f"weights {address}")
    with _one_line(f"weights {address}"):
        try:
            info = hub.HfApi(library_name="deeplabctl").model_info(address.repo, revision=address.revision)
        except Exception as error:  # of whatever the package uses for HTTP
            if isinstance(error, hub.errors.HfHubHTTPError) and not isinstance(error, hub.errors.OfflineModeIsEnabled):
                raise
            return _cached(hub, address, report, error)
    file = chosen(address, [each.rfilename for each in info.siblings or ()])
    pin = "" if address.revision else f" (hf://{address.repo}@{info.sha[:12]} stays the same)"
    report(Note(f"using {file} of hf://{address.repo}{pin}"))
    with _one_line(f"weights {address}"):
        beside = str(PurePosixPath(file).with_name(CONFIG))
        wanted = [file, *([beside] if any(each.rfilename == beside for each in info.siblings or ()) else [])]
        facts = {"revision": address.revision, "library_name": "deeplabctl"}
        paths = [Path(hub.hf_hub_download(address.repo, name, **facts)) for name in wanted]
    return paths[0]


def pushed(repo: str, file: str) -> str:
    """Return the address of a file in a repository: without its name where it is what the repository stands for."""
    return f"hf://{repo}" if file == PREFERRED[0] else f"hf://{repo}/{file}"


def check_repo(repo: str) -> None:
    """Raise WeightsError for what is not the name of a repository."""
    if not re.fullmatch(_REPO, repo, re.ASCII):
        raise WeightsError(f"expected a repository USER/NAME, got {repo!r}")


def upload(files: dict[str, Path | bytes], repo: str, message: str) -> str:
    """Add files to a model repository, which is made if it is not there, in one commit; returns its web address.

    The user's token is that of the hub's own programs (hf auth login, or $HF_TOKEN). Raises DownloadError.
    """
    hub = _package(f"repository {repo}")
    operations = [hub.CommitOperationAdd(name, content) for name, content in files.items()]
    with _one_line(f"repository {repo}"):
        api = hub.HfApi(library_name="deeplabctl")
        api.create_repo(repo, exist_ok=True)
        api.create_commit(repo, operations, commit_message=message)
    return f"{hub.constants.ENDPOINT}/{repo}"


def _cached(hub: Any, address: HubAddress, report: Reporter, error: Exception) -> Path:
    """Return the file from the cache; raises the first error for what is not in it."""
    try:
        folder = Path(hub.snapshot_download(address.repo, revision=address.revision, local_files_only=True))
    except Exception:  # it is not there, or was begun only
        raise error from None
    found = [each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()]
    file = chosen(address, sorted(found))
    report(Note(f"the hub cannot be reached: using {file} of hf://{address.repo} from the cache"))
    return folder / file


def chosen(address: HubAddress, names: Iterable[str]) -> str:
    """Return which file of a repository an address stands for; raises WeightsError where that is not clear."""
    names = list(names)
    if address.file is not None:
        if address.file not in names:
            raise WeightsError(f"weights {address}: there is no such file in the repository: it has {_listed(names)}")
        return address.file
    found = [name for name in names if name in PREFERRED or name.endswith(SUFFIXES)]
    found = [name for name in found if PurePosixPath(name).name != "saved_model.pb"]  # of a folder
    preferred = [name for name in PREFERRED if name in found]
    if not preferred and len(found) != 1:
        which = f"which of {_listed(found)}? Add it" if found else f"no file of weights among {_listed(names)}"
        raise WeightsError(f"weights {address}: expected one file of weights: {which} (hf://USER/NAME/FILE)")
    return (preferred or found)[0]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "nothing"


def _package(what: str) -> Any:
    if find_spec("huggingface_hub") is None:
        raise WeightsError(f"{what}: this needs the package huggingface_hub: pip install 'deeplabctl[hub]'")
    import huggingface_hub
    import huggingface_hub.constants
    import huggingface_hub.errors
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    return huggingface_hub


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Raise what the hub's package raises as a DownloadError of one line: its errors are of several libraries."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as that the disk is full, which the error says
            yield
    except (DownloadError, WeightsError):
        raise
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = {
            401: "there is no such repository or revision, or it is private: hf auth login, or set $HF_TOKEN",
            403: "the token may not do this",
            404: "there is no such repository or revision",
        }.get(status or 0)
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = reason or f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
        local = isinstance(error, OSError) and (error.filename or error.errno in (errno.ENOSPC, errno.EDQUOT))
        failure = "the hub's cache cannot be written" if local else "the hub cannot be reached"
        failure = "the hub refuses it" if status else failure
        raise DownloadError(f"{what}: {failure} ({why})") from None


def model_card(info: ModelInfo, file: str, size: int, sha256: str, repo: str, licence: str | None) -> str:
    """Return the card of a file of ``size`` bytes that goes to a repository USER/NAME.

    Paths of the machine that trained it are left out, but for the name of the data set's folder.
    """
    facts, network = info.provenance, ARCHITECTURES[info.architecture]
    recipe: dict[str, Any] = facts.get("recipe") or {}
    data = re.split(r"[/\\]", str(facts.get("data") or "").rstrip("/\\"))[-1]
    preprocessing = network.preprocessing.to_dict()
    miou = facts.get("val_miou")
    lines = ["---", *_front_matter(repo, licence, data, miou), "---", "", f"# {repo.partition('/')[2]}", ""]
    lines += [
        f"Semantic segmentation: a class for every pixel, of {len(info.classes)}. `{file}` is a Keras 3 archive.", "",
        "    pip install 'deeplabctl[hub]'", f"    deeplabctl infer photo.jpg --weights {pushed(repo, file)}", "",
        "Without deeplabctl, `keras.saving.load_model` opens it.", "", "| fact | value |", "|---|---|",
    ]  # fmt: skip
    rows = {
        "architecture": info.architecture,
        "width": f"{info.width:g}",
        "file": f"{size:,} bytes, sha256 `{sha256}`",
        "classes": ", ".join(f"{index} {name}" for index, name in enumerate(info.classes)),
        "input": ", ".join(f"{key} {json.dumps(value)}" for key, value in preprocessing.items()),
        "trained on": data and f"{data}, split {facts.get('split')}",
        "steps": facts.get("step"),
        "mIoU": None if miou is None else f"{100 * float(miou):.2f}%, on the validation split, in training",
        "written by": f"deeplabctl {__version__}",
    }
    lines += [f"| {name} | {_cell(value)} |" for name, value in rows.items() if value not in (None, "")]
    if recipe:
        lines += ["", "## Recipe", ""]
        for section, values in recipe.items():
            shown = values.items() if isinstance(values, dict) else ()
            lines.append(f"    [{section}]")
            lines += [f"    {key} = {json.dumps(value)}" for key, value in shown if not _is_path(value)]
    return "\n".join(lines) + "\n"


def _front_matter(repo: str, licence: str | None, data: str, miou: Any) -> list[str]:
    """Return the lines that the hub reads, in YAML, of which JSON's texts are a part."""
    lines = [f"license: {json.dumps(licence)}"] if licence else []
    lines += ["library_name: keras", "pipeline_tag: image-segmentation", "tags:"]
    lines += ["- deeplab", "- deeplabctl", "- semantic-segmentation"]
    if miou is None:
        return lines
    return [
        *lines, "model-index:", f"- name: {json.dumps(repo)}", "  results:", "  - task:",
        "      type: image-segmentation", "    dataset:", f"      name: {json.dumps(data)}",
        f"      type: {json.dumps(data)}", "    metrics:", "    - type: mean_iou", f"      value: {float(miou):.4f}",
    ]  # fmt: skip


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and ("/" in value or "\\" in value)
