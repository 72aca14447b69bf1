"""Links of a page, as they are in the repository, turned into links of the site."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from .modules import ROOT, modules
from .reference import target_of

CODE = r"```.*?```|``.*?``|`[^`\n]*`"
LINK = r"(?P<mark>!?)\[(?P<words>(?:[^][]|\[[^][]*\])*)\]\((?P<address>[^()\s]+)\)"
PIECE = re.compile(f"{CODE}|{LINK}", re.DOTALL)


class Broken(Exception):
    """A link to a file that does not exist."""


def rewritten(text: str, origin: Path, page: str, pages: Mapping[Path, str]) -> str:
    """Return Markdown whose relative links are those of the site.

    `origin` is the file in the repository, `page` its place on the site, and `pages` maps files to their places on
    the site. A link to a module leads to its reference. A link to another file that is not on the site becomes plain
    text. Raises Broken for a link to nothing. Code stays as it is.
    """

    def one(match: re.Match[str]) -> str:
        address = match["address"]
        if address is None or address.startswith("#") or "://" in address:
            return match[0]
        file, mark, anchor = address.partition("#")
        path = Path(os.path.normpath(origin.parent / file))
        if not path.exists():
            raise Broken(f"{origin.relative_to(ROOT)}: the link {address} leads to nothing")
        target = _target(path, mark + anchor, pages)
        return match["words"] if target is None else f"{match['mark']}[{match['words']}]({_from(page, target)})"

    return PIECE.sub(one, text)


def _target(path: Path, anchor: str, pages: Mapping[Path, str]) -> str | None:
    if path in pages:
        return pages[path] + anchor
    return next((target_of(one) for one in modules() if one.path == path), None)


def _from(page: str, target: str) -> str:
    file, hash_, anchor = target.partition("#")
    return os.path.relpath(file, os.path.dirname(page)) + hash_ + anchor
