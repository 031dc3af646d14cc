"""Make pages of the site from the repository's own, and lead their links to each other."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
# Pages outside of docs/, and their names on the site.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "benchmarks/NOTES.md": "notes.md",
    "tests/data/README.md": "fixtures.md",
}
SOURCES = {name: source for source, name in PAGES.items()}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in docs/."""
    for source, name in PAGES.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Write the links of a page, which are paths in the repository, as paths on the site."""
    name = page.file.src_uri
    folder = posixpath.dirname(SOURCES.get(name, f"docs/{name}"))

    def on_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[1]))
        found = PAGES.get(target, target.removeprefix("docs/"))
        return f"]({posixpath.relpath(found, posixpath.dirname(name) or '.')}{link[2]})"

    return re.sub(r"\]\((?![a-z]+:|#)([^)#\s]+)((?:#[^)]*)?)\)", on_site, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Keep options whole, which browsers break at their hyphens."""

    def whole(code: re.Match[str]) -> str:
        return re.sub(r"(?<!\S)--?[a-z][a-z-]*", r'<span class="option">\g<0></span>', code[0])

    return re.sub(r"(?<=<code>)[^<]*", whole, html)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Name the search for screen readers, which the theme does not."""
    return output.replace(' role="dialog"', ' role="dialog" aria-label="Search"')


def on_post_template(output: str, template_name: str, config: Any) -> str:
    """Do the same on the page of wrong addresses, which is none of the pages."""
    return on_post_page(output, None, config)
