"""Find masks, and the images that they are named after, in the folders that data sets have them in."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deeplabctl.data.findings import join_some
from deeplabctl.data.formats.annotations import ImportSettings
from deeplabctl.data.formats.documents import other_program, read_text
from deeplabctl.data.formats.image_search import ImageSearch, files_below
from deeplabctl.data.image_files import FOREIGN_SUFFIXES, IMAGE_SUFFIXES, NAMED_SUFFIXES, SAVED_SUFFIXES
from deeplabctl.data.layout import IMAGES, LABELS, LISTS, split_of
from deeplabctl.errors import DataError
from deeplabctl.files import composed, file_names, suffix_counts
from deeplabctl.reporting import counted

_MASK_SUFFIXES = (*SAVED_SUFFIXES, ".gif")
_IMAGE_FOLDERS = (IMAGES, "images", "imgs", "Images")  # where images are looked for beside a folder of masks


@dataclass
class MaskPairs:
    """Hold the masks that were found, those with images, and what is to be said of the others."""

    masks: list[Path] = field(default_factory=list)
    pairs: list[tuple[str, list[Path], Path]] = field(default_factory=list)  # name, images that fit it, mask
    splits: dict[Path, str] = field(default_factory=dict)  # of masks in a data set, as its lists say
    notes: list[str] = field(default_factory=list)


def pair_masks(folder: Path, settings: ImportSettings) -> MaskPairs:
    """Find masks and their images, of a data set those in its lists; raises DataError if no mask has an image."""
    found, left_out, of_places = MaskPairs(), 0, list[str]()
    others: Counter[str] = Counter()  # suffixes of images of other formats
    places = _places(folder, settings)
    for place, images_folder in places:
        names, outside = _masks_in(place, settings.mask_suffix, images_folder)
        search = ImageSearch([images_folder], by_stem=True, suffix=settings.image_suffix)
        above = "" if folder in (place, place.parent) else place.parent.relative_to(folder).as_posix() + "/"
        images_of = {path: images for name, path in names if (images := search.find(name)) not in ([], [path])}
        if place == images_folder and (beside := _pngs_beside(names, search)):
            names = [(name, path) for name, path in names if path.suffix.lower() in (".png", ".gif")]
            images_of |= beside
            of_places.append(f"masks are the PNG files beside images of the same name: {len(beside)}")
        found.pairs += [(above + name, images_of[path], path) for name, path in names if path in images_of]
        others.update(_other_suffixes(images_folder, {path for _, path in names}))
        found.masks += [path for _, path in names]
        left_out += outside
        of_places += search.notes()
    if not found.pairs:
        raise DataError(_no_pairs(folder, settings, found.masks))
    masks_of: dict[Path, list[str]] = defaultdict(list)
    for _, images, path in found.pairs:
        masks_of[images[0]].append(path.relative_to(folder).as_posix())
    if min(map(len, masks_of.values())) > 1:
        some = " and ".join(next(iter(masks_of.values()))[:2])
        raise DataError(
            f"{folder}: expected one mask for each image, got several for all of them: {some}, for example; if each "
            "shows one class, merge them into masks of class ids"
        )
    paired = {path for *_, path in found.pairs}
    if alone := [path.name for path in found.masks if path not in paired]:
        have = "mask has" if len(alone) == 1 else "masks have"
        found.notes.append(f"{len(alone)} {have} no image: skipped ({join_some(alone, 3)})")
    if left_out:
        found.notes.append(f"files in folders below {folder}: {left_out} left out")
    if without := _images_without_masks(folder, places, found):
        some = join_some([str(place) for place in without], 3)
        found.notes.append(f"images in folders without any mask are left out: {without.total()} ({some})")
    if others:
        some = join_some([f"{count} {suffix}" for suffix, count in others.items()])
        found.notes.append(f"images of other formats are left out: {some}; convert them to JPEG or PNG")
    found.notes += of_places
    if folder.name == LABELS:
        _keep_listed(found, folder)
    return found


def _images_without_masks(folder: Path, places: Sequence[tuple[Path, Path]], found: MaskPairs) -> Counter[Path]:
    """Count the images in each folder of images of which none has a mask."""
    searched = {path for place, images in places if images != place for path in files_below(images)}
    searched |= {path for path in files_below(folder) if path.parent.name in _IMAGE_FOLDERS}
    used = {image.parent for _, images, _ in found.pairs for image in images} | {path.parent for path in found.masks}
    return Counter(
        path.parent for path in sorted(searched) if path.suffix.lower() in IMAGE_SUFFIXES and path.parent not in used
    )


def _keep_listed(found: MaskPairs, folder: Path) -> None:
    """Note the splits of masks in a data set, as its lists say; masks in none are left out.

    Raises DataError if all are.
    """
    lists = folder.parent / LISTS
    splits: dict[str, str] = {}
    twice, unknown = set[str](), list[str]()
    for name in file_names(lists):
        stem = name.lower().removesuffix(".txt").removesuffix("_aug")
        split = "" if stem[-1:].isdigit() else split_of(stem)  # train1.txt, as of folds, is not all of train
        unknown += [] if split else [name]
        for line in read_text(lists / name).splitlines() if split else ():
            text = re.sub(rf".*{LABELS}(Aug)?/", "", line.strip().replace("\\", "/"))  # of two paths, the label
            key = composed(text.removesuffix(".png"))
            twice |= {key} if splits.get(key, split) != split else set()
            splits[key] = split
    names = {path: composed(path.relative_to(folder).with_suffix("").as_posix()) for *_, path in found.pairs}
    if alone := [name for name in names.values() if splits and name not in splits]:
        found.pairs = [pair for pair in found.pairs if names[pair[2]] in splits]
        others = f"; lists of no known split are not read: {join_some(unknown)}" if unknown else ""
        text = f"masks that the lists in {lists} do not name: {len(alone)} left out ({join_some(alone, 4)}){others}"
        if not found.pairs:
            raise DataError(f"{text}; correct the lists, or remove them")
        found.notes.append(text)
    if both := sorted(twice & {*names.values()}):
        found.notes.append(f"masks in the lists of two splits: {len(both)}, taken for the last ({join_some(both, 4)})")
    found.splits = {path: splits[name] for path, name in names.items() if name in splits}


def _images_folder(folder: Path, settings: ImportSettings) -> Path:
    """Return the folder of the images: that of the settings, one beside or in the folder of masks, or the same.

    The path of one in the folder of masks begins with that of this folder.
    """
    if settings.images is not None:
        whole, above = settings.images.absolute(), folder.absolute()
        return folder / whole.relative_to(above) if whole.is_relative_to(above) else settings.images
    places = [parent / name for parent in (folder, folder.parent) for name in _IMAGE_FOLDERS]
    return next((place for place in places if place.is_dir() and place != folder), folder)


def _places(folder: Path, settings: ImportSettings) -> list[tuple[Path, Path]]:
    """Return the folders of masks and those of their images: one, or one beside each of several folders of images.

    Raises DataError if there are other folders, too, beside one of these.
    """
    images_folder = _images_folder(folder, settings)
    if images_folder != folder and (settings.images is not None or images_folder.parent != folder):
        return [(folder, images_folder)]
    parents = [folder]
    if images_folder == folder:
        parents = sorted({path.parent.parent for path in files_below(folder) if path.parent.name in _IMAGE_FOLDERS})
    pairs = []
    for parent in parents:
        images_folder = next(parent / name for name in _IMAGE_FOLDERS if (parent / name).is_dir())
        masks = [path for path in files_below(parent) if path.suffix.lower() in _MASK_SUFFIXES]
        others = sorted({parent.joinpath(*path.relative_to(parent).parts[:-1][:1]) for path in masks} - {images_folder})
        if len(others) > 1:
            raise DataError(
                f"{parent}: expected one folder of masks beside {images_folder.name}, got "
                f"{join_some([place.name for place in others], 3)}; convert one of them, with `images`"
            )
        pairs += [(place, images_folder) for place in others]
    return pairs or [(folder, folder)]


def _masks_in(folder: Path, suffix: str, images_folder: Path) -> tuple[list[tuple[str, Path]], int]:
    """Return names and files of the masks in a folder, or else in those below it, and how many are left out."""
    files = [path for path in files_below(folder) if path.suffix.lower() in _MASK_SUFFIXES]
    if folder in images_folder.parents:
        files = [path for path in files if images_folder not in path.parents]
    chosen = [path for path in files if path.parent == folder] or files
    names = [(path.relative_to(folder).with_suffix("").as_posix(), path) for path in chosen]
    named = [(name.removesuffix(suffix), path) for name, path in names if name.endswith(suffix)]
    return named, len(files) - len(chosen)


def _pngs_beside(names: list[tuple[str, Path]], search: ImageSearch) -> dict[Path, list[Path]]:
    """Return the images of masks in one folder: a PNG is the mask of a file of the same name and another format."""
    found = {}
    for name, path in names:
        images = [image for image in search.find(name) if image != path]
        is_same = len(images) == 1 and images[0].stem == path.stem
        if is_same and path.suffix.lower() == ".png" != images[0].suffix.lower():
            found[path] = images
    return found


def _other_suffixes(folder: Path, masks: set[Path]) -> Iterator[str]:
    """Yield the suffix of each image that is not looked for, as its format is not one of data sets."""
    for path in files_below(folder):
        if path.suffix.lower() in (*NAMED_SUFFIXES, *FOREIGN_SUFFIXES) and path not in masks:
            yield path.suffix.lower()


def _no_pairs(folder: Path, settings: ImportSettings, masks: list[Path]) -> str:
    """Say why no mask has an image, with a guess at the suffix of masks."""
    expected = f"{folder}: expected masks that are named after their images"
    files = files_below(folder)
    other = other_program(path for path in files if path.suffix.lower() not in IMAGE_SUFFIXES)
    if not masks:
        got = other or f"{suffix_counts(files) or 'no file'}; choose their folder"
        if settings.mask_suffix and any(path.suffix.lower() in _MASK_SUFFIXES for path in files):
            return f"{folder}: expected masks whose names end in {settings.mask_suffix} (`mask_suffix`), got none"
        return f"{expected}, or annotations of another program, got {got}"
    images_folder = _images_folder(folder, settings)
    images = {path.stem: path for path in files_below(images_folder) if path.suffix.lower() in IMAGE_SUFFIXES}
    suffixes: dict[str, tuple[Path, str]] = {}  # of masks, with an example of each and its image
    for path in masks[:100]:
        name = _begin(path.stem, images)
        suffix = path.stem.removeprefix(name)
        if name and suffix and not suffix[0].isdecimal():
            suffixes.setdefault(suffix, (path, name))
    if suffixes:
        (first, (path, name)), *others = suffixes.items()
        got = f"{path.name} and {images[name].name}, for example"
        fix = f"use `mask_suffix` to choose one of {join_some([*suffixes])}" if others else f"use `mask_suffix={first}`"
        return f"{expected}, got {got}; {fix}"
    if images_folder != folder and (ends := _different_ends(masks[0].stem, images)):
        got = f"{masks[0].name} and {images[ends[0]].name}, for example"
        return f"{expected}, got {got}; use `image_suffix={ends[1]}` and `mask_suffix={ends[2]}`"
    if set(images) <= {path.stem for path in masks}:
        if images_folder == folder:
            got = other or (
                f"{counted(len(masks), 'image')} without; outline the objects in them, with labelme for example; if "
                "they are masks, use `images` for the folder of the photos"
            )
            return f"{folder}: expected photos with masks or annotations, got {got}"
        where = settings.images or ", ".join(_IMAGE_FOLDERS)
        return f"{expected}, got no images in {where}; use `images` to name a folder"
    photo = min({*images.values()} - {*masks})
    return f"{expected}, got {masks[0].name} and {photo.name}, for example; rename them"


def _begin(mask: str, images: Iterable[str]) -> str:
    """Return the name of the image that a mask's name begins with, with its whole number (IMG_12, not IMG_1), or ""."""
    begin = ""
    for name in sorted(filter(mask.startswith, images), key=len):
        if not begin or name[len(begin)].isdecimal():
            begin = name
    return begin


def _different_ends(mask: str, images: Mapping[str, Path]) -> tuple[str, str, str] | None:
    """Return an image whose name begins as a mask's up to a sign, and what each has behind that."""
    ends = [match.start() for match in re.finditer(r"[_\-. ]", mask)]
    for end in reversed(ends):
        name = next((name for name in sorted(images) if name.startswith(mask[: end + 1]) and end), None)
        if name is not None:
            return name, name[end:], mask[end:]
    return None
