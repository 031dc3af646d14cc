"""Make the augmented PASCAL VOC 2012 set of the papers from the two official archives.

VOC 2012 (trainval) has 1,464 + 1,449 segmented images. The Semantic Boundaries Dataset (SBD, Hariharan et al., ICCV
2011) has masks of 8,498 + 2,857 of VOC's images, as MATLAB files without void borders.
train_aug = (VOC train + SBD train + SBD val) without VOC val: 10,582 images. Where both have a mask, VOC's is used.
"""

from __future__ import annotations

import io
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from deeplabctl.arrays import Label
from deeplabctl.classes import IGNORE_LABEL, VOC_CLASSES
from deeplabctl.data.labels import as_8_bits, mask_bytes
from deeplabctl.data.layout import IMAGES, LABELS, LABELS_AUGMENTED, LISTS, VOC_FOLDERS, make_layout, write_list
from deeplabctl.data.voc_archives import Member, read_members
from deeplabctl.errors import DataError, OutputError
from deeplabctl.files import remove_unfinished, sync
from deeplabctl.parallel import map_ahead
from deeplabctl.reporting import Note, Reporter

COUNTS = {"train": 1464, "val": 1449, "trainval": 2913, "train_aug": 10582, "trainval_aug": 12031}
_SBD_COUNTS = {"train": 8498, "val": 2857}
# The years in which VOC's lists train or val had these lengths.
_YEARS = {209: 2007, 213: 2007, 749: 2009, 750: 2009, 964: 2010, 1112: 2011, 1111: 2011}
Lists = dict[str, list[str]]  # the ids in each list
_UNFINISHED = ".prepare-voc-unfinished"  # marks a folder that is being made, and in which a restart continues

_VOC_MEMBER = re.compile(
    r"(?:.*/)?(?:ImageSets/Segmentation/(?P<list>train|val|trainval)\.txt"
    r"|(?P<folder>JPEGImages|SegmentationClass)/(?P<id>\w[\w.-]*)\.(?:jpg|png))"
)
_OTHER_YEAR = re.compile(r"(?:.*/)?VOC20(?!12/)\d\d/.*")
_SBD_MEMBER = re.compile(r"(?:(?:.*/)?dataset/)?(?P<list>train|val)\.txt|(?:.*/)?cls/(?P<id>\w[\w.-]*)\.mat")


def prepare_voc(
    voc: Path, sbd: Path, out: Path, report: Reporter, *, any_counts: bool = False, overwrite: bool = False
) -> dict[str, int]:
    """Write the merged set to ``out`` in VOC's layout and return the number of images in each list.

    ``voc`` and ``sbd`` are the archives, or the folders to which they were unpacked; ``out`` may be VOC's unpacked
    folder, to which SegmentationClassAug and two lists are added. After an interruption it continues where it stopped:
    the lists are written last. Raises DataError for archives with other content, and, without ``any_counts``, for lists
    of other lengths than the papers'; OutputError for a folder with other files, without ``overwrite``.
    """
    voc_lists, sbd_lists = _voc_lists(voc, report), Lists()
    _prepare_folder(out, voc, overwrite)
    voc_ids = {name for ids in voc_lists.values() for name in ids}
    masks = _sbd_masks(sbd, voc_ids, sbd_lists, out / LABELS_AUGMENTED, report)
    for _ in map_ahead(_write_mask, masks):
        pass
    train_aug = sorted({*voc_lists["train"], *sbd_lists["train"], *sbd_lists["val"]} - {*voc_lists["val"]})
    merged = {**voc_lists, "train_aug": train_aug, "trainval_aug": sorted({*train_aug, *voc_lists["val"]})}
    _check_counts(merged, sbd_lists, voc, sbd, any_counts, report)
    _copy_voc(voc, out, voc_ids, set(merged["trainval_aug"]), report)
    _check_files(out, merged, voc_ids, voc, sbd)
    for split, ids in merged.items():
        write_list(out, split, ids)
    try:
        sync(out)
        remove_unfinished(out / LISTS / f"{split}.txt" for split in merged)
        for folder in (IMAGES, LABELS, LABELS_AUGMENTED):
            for part in (out / folder).glob(".*.part"):  # left by a process that was killed
                part.unlink()
        (out / _UNFINISHED).unlink()
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}; run it again to continue") from None
    return {split: len(ids) for split, ids in merged.items()}


def _prepare_folder(out: Path, voc: Path, overwrite: bool) -> None:
    """Make the folder and mark it as unfinished; raises OutputError for one with other files in it."""
    try:
        inside = {path.name for path in out.iterdir()} if out.exists() else set()
        augmented = LABELS_AUGMENTED in inside or (out / LISTS / "train_aug.txt").exists()
        is_voc = out.resolve() in [(voc / part).resolve() for part in ("", *VOC_FOLDERS)]
        ours = not inside or _UNFINISHED in inside or (is_voc and not augmented)
        if not ours and not overwrite:
            raise OutputError(
                f"{out} already contains {'the augmented set' if augmented else 'other files'}; check it with "
                "deeplabctl data check, use `overwrite` to write it again, or choose another `out`"
            )
        if _UNFINISHED not in inside and augmented:  # it is written again
            shutil.rmtree(out / LABELS_AUGMENTED, ignore_errors=True)
            for split in ("train_aug", "trainval_aug"):
                (out / LISTS / f"{split}.txt").unlink(missing_ok=True)
        make_layout(out)
        (out / LABELS_AUGMENTED).mkdir(exist_ok=True)
        (out / _UNFINISHED).touch()
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}; choose another `out`") from None


def _voc_lists(voc: Path, report: Reporter) -> Lists:
    """Return the ids of VOC's lists."""
    found: Lists = {}

    def wanted(path: PurePosixPath) -> bool:
        match = _match_voc(path)
        return match is not None and match["list"] is not None

    for member in read_members(voc, wanted, report):
        found[member.path.stem] = member.read().decode("utf-8", "replace").split()
        if len(found) == 3:
            break
    for split in ("train", "val"):
        if not found.get(split):
            raise DataError(
                f"{voc}: expected ImageSets/Segmentation/{split}.txt in it, got none; set `voc` to the archive "
                "VOCtrainval_11-May-2012.tar, or to the folder VOC2012 that it unpacks to"
            )
    found.setdefault("trainval", sorted({*found["train"], *found["val"]}))
    return {split: found[split] for split in ("train", "val", "trainval")}


def _match_voc(path: PurePosixPath) -> re.Match[str] | None:
    """Match a member of VOC's archive that belongs to the set, of 2012 and no other year."""
    return None if _OTHER_YEAR.fullmatch(str(path)) else _VOC_MEMBER.fullmatch(str(path))


def _sbd_masks(
    sbd: Path, voc_ids: set[str], lists: Lists, folder: Path, report: Reporter
) -> Iterator[tuple[str, bytes, Path]]:
    """Yield (name, MATLAB file, target) of SBD's masks that VOC does not have, and fill in SBD's ``lists``."""
    for member in read_members(sbd, lambda path: _SBD_MEMBER.fullmatch(str(path)) is not None, report):
        match = _SBD_MEMBER.fullmatch(str(member.path))
        assert match is not None
        if match["list"]:
            lists[match["list"]] = member.read().decode("utf-8", "replace").split()
        elif match["id"] not in voc_ids:
            target = folder / f"{match['id']}.png"
            if not target.exists() or not target.stat().st_size:
                yield f"{sbd}: {member.path}", member.read(), target
    for split in _SBD_COUNTS:
        if not lists.get(split):
            raise DataError(
                f"{sbd}: expected dataset/{split}.txt in it, got none; set `sbd` to the archive benchmark.tgz, or "
                "to the folder benchmark_RELEASE that it unpacks to"
            )


def read_sbd_mask(content: bytes, name: str) -> Label:
    """Return the class ids (H, W) uint8 of one of SBD's MATLAB files: GTcls.Segmentation, 0 to 20, no void."""
    from scipy.io import loadmat

    try:
        ids = loadmat(io.BytesIO(content), variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0]
        label = np.ascontiguousarray(as_8_bits(ids, Path(name)))
        has_pixels = label.ndim == 2 and label.size > 0
    except Exception as error:  # scipy raises many kinds of exceptions for damaged files
        raise DataError(f"{name}: expected SBD's GTcls.Segmentation, got {type(error).__name__}: {error}") from None
    if not has_pixels or label[label != IGNORE_LABEL].max(initial=0) >= len(VOC_CLASSES):
        raise DataError(f"{name}: expected class ids 0 to 20, got {label.max(initial=0)}, of shape {label.shape}")
    return label


def _write_mask(job: tuple[str, bytes, Path]) -> None:
    name, content, target = job
    _write(target, mask_bytes(read_sbd_mask(content, name)))


def _write(target: Path, content: bytes) -> None:
    """Write one of many files under a temporary name, then rename it, without the wait for the disk of `whole_file`."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        part.write_bytes(content)
        part.replace(target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror}; run it again to continue") from None
    finally:
        part.unlink(missing_ok=True)


def _copy_voc(voc: Path, out: Path, voc_ids: set[str], ids: set[str], report: Reporter) -> None:
    """Copy the images of the merged set, and VOC's masks into both folders of labels."""

    def wanted(path: PurePosixPath) -> bool:
        match = _match_voc(path)
        return match is not None and match["id"] in (ids if match["folder"] == IMAGES else voc_ids)

    for member in read_members(voc, wanted, report):
        is_image = member.path.parent.name == IMAGES
        for folder in (IMAGES,) if is_image else (LABELS, LABELS_AUGMENTED):
            _copy(member, out / folder / member.path.name)


def _copy(member: Member, target: Path) -> None:
    if not target.exists() or target.stat().st_size != member.size:
        _write(target, member.read())


def _check_counts(merged: Lists, sbd_lists: Lists, voc: Path, sbd: Path, any_counts: bool, report: Reporter) -> None:
    """Raise DataError for the first list of another length than in the papers, or warn of all with ``any_counts``."""
    for split, expected in COUNTS.items():
        got = len(merged[split])
        if got == expected:
            continue
        if not split.endswith("_aug"):
            year = _YEARS.get(got)
            reason = f"these are VOC {year}'s" if year else f"{voc} is not the complete VOC 2012"
        else:
            parts = [f"{part} {len(ids):,} of {_SBD_COUNTS[part]:,}" for part, ids in sbd_lists.items()]
            reason = f"{sbd} lists {' and '.join(parts)}, and {voc} train {len(merged['train']):,} of 1,464"
        message = f"{split}: expected {expected:,} images, got {got:,}: {reason}"
        if not any_counts:
            raise DataError(f"{message}; download the official archives, or use `any_counts` to continue with these")
        report(Note(message, warning=True))


def _check_files(out: Path, merged: Lists, voc_ids: set[str], voc: Path, sbd: Path) -> None:
    """Raise DataError if an image or a mask is missing."""
    for folder, suffix, ids in (
        (IMAGES, ".jpg", merged["trainval_aug"]),
        (LABELS, ".png", merged["trainval"]),
        (LABELS_AUGMENTED, ".png", merged["trainval_aug"]),
    ):
        existing = {path.stem for path in (out / folder).iterdir()}
        if missing := [name for name in ids if name not in existing]:
            source = sbd if folder == LABELS_AUGMENTED and missing[0] not in voc_ids else voc
            inside = f"{folder}/{missing[0]}{suffix}" if source == voc else f"cls/{missing[0]}.mat"
            raise DataError(
                f"{source}: expected {inside} in it, got none ({len(missing):,} of {len(ids):,} are missing); the "
                "archive is not complete: download it again, then run this again to continue"
            )
