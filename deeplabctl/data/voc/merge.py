"""Make the augmented PASCAL VOC 2012 set of the papers out of the two official archives.

VOC 2012 (trainval) has 1,464 + 1,449 segmented images. The Semantic Boundaries Dataset (SBD, Hariharan et al., ICCV
2011) has masks of 8,498 + 2,857 of VOC's images, as MATLAB files without void borders.
train_aug = (VOC train + SBD train + SBD val) without VOC val: 10,582 images. Where both have a mask, VOC's is taken.
"""

from __future__ import annotations

import io
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from deeplabctl.classes import IGNORE_LABEL, VOC_CLASSES
from deeplabctl.data.dataset import IMAGES, LABELS, LABELS_AUGMENTED, LISTS
from deeplabctl.data.images import mask_picture
from deeplabctl.data.layout import make_layout, write_list
from deeplabctl.data.voc.archives import Member, members
from deeplabctl.errors import DataError
from deeplabctl.parallel import map_ahead
from deeplabctl.reporting import Note, Reporter

COUNTS = {"train": 1464, "val": 1449, "trainval": 2913, "train_aug": 10582, "trainval_aug": 12031}
_SBD_COUNTS = {"train": 8498, "val": 2857}
_YEARS = {
    209: 2007,
    213: 2007,
    749: 2009,
    750: 2009,
    964: 2010,
    1112: 2011,
    1111: 2011,
}  # VOC's train and val, in years
_UNFINISHED = ".prepare-voc-unfinished"  # in a folder that is being made; a restart goes on there

_VOC_MEMBER = re.compile(
    r"(?:.*/)?(?:ImageSets/Segmentation/(?P<list>train|val|trainval)\.txt"
    r"|(?P<folder>JPEGImages|SegmentationClass)/(?P<id>\w[\w.-]*)\.(?:jpg|png))"
)
_OTHER_YEAR = re.compile(r"(?:.*/)?VOC20(?!12/)\d\d/.*")
_SBD_MEMBER = re.compile(r"(?:(?:.*/)?dataset/)?(?P<list>train|val)\.txt|(?:.*/)?cls/(?P<id>\w[\w.-]*)\.mat")


@dataclass
class Lists:
    """Hold the ids that VOC and SBD list, and those of the merged set."""

    voc: dict[str, list[str]] = field(default_factory=dict)  # train, val, trainval
    sbd: dict[str, list[str]] = field(default_factory=dict)  # train, val

    def merged(self) -> dict[str, list[str]]:
        """Return the five lists of the merged set."""
        union = {*self.voc["train"], *self.sbd["train"], *self.sbd["val"]} - set(self.voc["val"])
        train_aug = sorted(union)
        return {**self.voc, "train_aug": train_aug, "trainval_aug": sorted({*train_aug, *self.voc["val"]})}


def prepare_voc(
    voc: Path, sbd: Path, out: Path, report: Reporter, *, any_counts: bool = False, overwrite: bool = False
) -> dict[str, int]:
    """Write the merged set to ``out`` in VOC's layout and return the number of images in each list.

    ``voc`` and ``sbd`` are the archives or folders where they are unpacked; ``out`` may be VOC's unpacked folder, to
    which SegmentationClassAug and two lists are added. Started again after an interruption it goes on where it was:
    the lists come last. Raises DataError for archives that are not what they should be, and, without ``any_counts``,
    for lists of other lengths than the papers'.
    """
    lists = Lists(_voc_lists(voc, report))
    _begin(out, voc, overwrite)
    own = set(lists.voc["train"]) | set(lists.voc["val"]) | set(lists.voc["trainval"])
    masks = _sbd_masks(sbd, own, lists, out / LABELS_AUGMENTED, report)
    for _ in map_ahead(_write_mask, masks):
        pass
    merged = lists.merged()
    _check_counts(lists, merged, voc, sbd, any_counts, report)
    _copy_voc(voc, out, own, set(merged["trainval_aug"]), report)
    _check_files(out, merged, own, voc, sbd)
    for split, ids in merged.items():
        write_list(out, split, ids)
    (out / _UNFINISHED).unlink()
    for folder in (IMAGES, LABELS, LABELS_AUGMENTED):
        for left in (out / folder).glob(".*.part"):  # of a process that was killed
            left.unlink()
    return {split: len(ids) for split, ids in merged.items()}


def _begin(out: Path, voc: Path, overwrite: bool) -> None:
    """Make the folder, or refuse one in which something else lies."""
    try:
        inside = {path.name for path in out.iterdir()} if out.exists() else set()
        augmented = LABELS_AUGMENTED in inside or (out / LISTS / "train_aug.txt").exists()
        is_voc = out.resolve() in [(voc / part).resolve() for part in ("", "VOC2012", "VOCdevkit/VOC2012")]
        ours = not inside or _UNFINISHED in inside or (is_voc and not augmented)
        if not ours and not overwrite:
            raise DataError(
                f"{out} exists and has {'the augmented set' if augmented else 'other files'} in it; look at it with "
                "data check, give --overwrite to write it anew, or another --out"
            )
        if _UNFINISHED not in inside and augmented:  # to be written anew
            shutil.rmtree(out / LABELS_AUGMENTED, ignore_errors=True)
            for split in ("train_aug", "trainval_aug"):
                (out / LISTS / f"{split}.txt").unlink(missing_ok=True)
        make_layout(out)
        (out / LABELS_AUGMENTED).mkdir(exist_ok=True)
        (out / _UNFINISHED).touch()
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror}; choose another --out") from None


def _voc_lists(voc: Path, report: Reporter) -> dict[str, list[str]]:
    """Return the ids of VOC's lists."""
    found: dict[str, list[str]] = {}

    def wanted(path: PurePosixPath) -> bool:
        match = _voc_role(path)
        return match is not None and match["list"] is not None

    for member in members(voc, wanted, report):
        found[member.path.stem] = member.read().decode("utf-8", "replace").split()
        if len(found) == 3:
            break
    for split in ("train", "val"):
        if not found.get(split):
            raise DataError(
                f"{voc}: expected ImageSets/Segmentation/{split}.txt in it, got none; give --voc the archive "
                "VOCtrainval_11-May-2012.tar, or the folder VOC2012 that it unpacks to"
            )
    found.setdefault("trainval", sorted({*found["train"], *found["val"]}))
    return {split: found[split] for split in ("train", "val", "trainval")}


def _voc_role(path: PurePosixPath) -> re.Match[str] | None:
    return None if _OTHER_YEAR.fullmatch(str(path)) else _VOC_MEMBER.fullmatch(str(path))


def _sbd_masks(
    sbd: Path, own: set[str], lists: Lists, folder: Path, report: Reporter
) -> Iterator[tuple[str, bytes, Path]]:
    """Yield (name, MATLAB file, target) of SBD's masks of images that VOC has no mask of, and fill in SBD's lists."""
    for member in members(sbd, lambda path: _SBD_MEMBER.fullmatch(str(path)) is not None, report):
        match = _SBD_MEMBER.fullmatch(str(member.path))
        assert match is not None
        if match["list"]:
            lists.sbd[match["list"]] = member.read().decode("utf-8", "replace").split()
        elif match["id"] not in own:
            target = folder / f"{match['id']}.png"
            if not target.exists() or not target.stat().st_size:
                yield f"{sbd}: {member.path}", member.read(), target
    for split in _SBD_COUNTS:
        if not lists.sbd.get(split):
            raise DataError(
                f"{sbd}: expected dataset/{split}.txt in it, got none; give --sbd the archive benchmark.tgz, or the "
                "folder benchmark_RELEASE that it unpacks to"
            )


def read_sbd_mask(content: bytes, name: str) -> npt.NDArray[np.uint8]:
    """Return the class ids (H, W) uint8 in one of SBD's MATLAB files: GTcls.Segmentation, 0 to 20, no void."""
    from scipy.io import loadmat

    try:
        ids = loadmat(io.BytesIO(content), variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0]
        label: npt.NDArray[np.uint8] = np.ascontiguousarray(ids, np.uint8)
        sound = label.ndim == 2 and label.size > 0
    except Exception as error:  # damaged files make scipy raise whatever comes up
        raise DataError(f"{name}: expected SBD's GTcls.Segmentation, got {type(error).__name__}: {error}") from None
    if not sound or label[label != IGNORE_LABEL].max(initial=0) >= len(VOC_CLASSES):
        raise DataError(f"{name}: expected class ids 0 to 20, got {label.max(initial=0)}, of shape {label.shape}")
    return label


def _write_mask(job: tuple[str, bytes, Path]) -> None:
    name, content, target = job
    picture = mask_picture(read_sbd_mask(content, name))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    _write(target, buffer.getvalue())


def _write(target: Path, content: bytes) -> None:
    """Write one of many files: under a temporary name, then renamed, so that what stands there is whole."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        part.write_bytes(content)
        part.replace(target)
    except OSError as error:
        raise DataError(f"cannot write {target}: {error.strerror}; the same command goes on from here") from None
    finally:
        part.unlink(missing_ok=True)


def _copy_voc(voc: Path, out: Path, own: set[str], ids: set[str], report: Reporter) -> None:
    """Copy the images of the merged set and VOC's own masks, these into both folders of labels."""

    def wanted(path: PurePosixPath) -> bool:
        match = _voc_role(path)
        return match is not None and match["id"] in (ids if match["folder"] == IMAGES else own)

    for member in members(voc, wanted, report):
        image = member.path.parent.name == IMAGES
        for folder in (IMAGES,) if image else (LABELS, LABELS_AUGMENTED):
            _copy(member, out / folder / member.path.name)


def _copy(member: Member, target: Path) -> None:
    if not target.exists() or target.stat().st_size != member.size:
        _write(target, member.read())


def _check_counts(
    lists: Lists, merged: dict[str, list[str]], voc: Path, sbd: Path, any_counts: bool, report: Reporter
) -> None:
    """Compare the lengths of the lists with the papers' and explain the first difference."""
    for split, expected in COUNTS.items():
        got = len(merged[split])
        if got == expected:
            continue
        if split in lists.voc:
            year = _YEARS.get(got)
            reason = f"these are VOC {year}'s" if year else f"{voc} is not the whole of VOC 2012"
        else:
            parts = [f"{part} {len(ids):,} of {_SBD_COUNTS[part]:,}" for part, ids in lists.sbd.items()]
            reason = f"{sbd} lists {' and '.join(parts)}, and {len(lists.voc['train']):,} of 1,464 are VOC's own"
        message = f"{split}: expected {expected:,} images, got {got:,}: {reason}"
        if not any_counts:
            raise DataError(f"{message}; get the official archives, or give --any-counts to go on with these")
        report(Note(message, warning=True))


def _check_files(out: Path, merged: dict[str, list[str]], own: set[str], voc: Path, sbd: Path) -> None:
    """Refuse a set in which an image or a mask is missing."""
    for folder, suffix, ids in (
        (IMAGES, ".jpg", merged["trainval_aug"]),
        (LABELS, ".png", merged["trainval"]),
        (LABELS_AUGMENTED, ".png", merged["trainval_aug"]),
    ):
        there = {path.stem for path in (out / folder).iterdir()}
        if missing := [name for name in ids if name not in there]:
            source = sbd if folder == LABELS_AUGMENTED and missing[0] not in own else voc
            inside = f"{folder}/{missing[0]}{suffix}" if source == voc else f"cls/{missing[0]}.mat"
            raise DataError(
                f"{source}: expected {inside} in it, got none ({len(missing):,} of {len(ids):,} are missing); the "
                "archive is not whole: get it again, and the same command goes on from here"
            )
