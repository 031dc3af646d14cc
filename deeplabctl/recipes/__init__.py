"""The packaged recipes: TOML files in this folder, by the name of the file. Importing this costs no numpy."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Return the names of the recipes, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def text(name: str) -> str:
    """Return a recipe's TOML."""
    return (_FOLDER / f"{name}.toml").read_text("utf-8")
