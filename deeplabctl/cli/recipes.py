"""``deeplabctl recipes``: list the packaged recipes, and print them."""

from __future__ import annotations

import tomllib
from typing import Annotated

import typer

from deeplabctl import recipes as packaged
from deeplabctl.cli.console import Console

EXAMPLES = """
Examples
  # what there is
  deeplabctl recipes

  # a recipe as the beginning of your own
  deeplabctl recipes own > mine.toml
  deeplabctl train --data my-set --recipe mine.toml
"""


def complete_recipe(incomplete: str) -> list[str]:
    """Return the names of recipes that begin so, for the shell."""
    return [name for name in packaged.names() if name.startswith(incomplete)]


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Recipe to print. Default: list all.", autocompletion=complete_recipe),
    ] = None,
    *,
    console: Console,
) -> None:
    """List the recipes of trainings, or print one."""
    from deeplabctl.errors import RecipeError

    if name is None:
        known = {each: _first_sentence(each) for each in packaged.names()}
        console.table(("recipe", "what it is"), list(known.items()), texts=2)
        console.next("train --recipe NAME")
        console.document(known)
    elif name in packaged.names():
        for line in packaged.text(name).splitlines():
            console.say(line)
        console.document({name: tomllib.loads(packaged.text(name))})
    else:
        raise RecipeError(f"there is no recipe {name!r}; choose {', '.join(packaged.names())}")


def _first_sentence(name: str) -> str:
    comment = " ".join(line.strip("# ") for line in packaged.text(name).partition("\n#\n")[0].splitlines())
    return f"{comment.partition('. ')[0].rstrip('.')}."
