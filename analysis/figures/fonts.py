"""Fonts for labels in any script: installed fonts complete the default one, and what none has is spelled out."""

from __future__ import annotations

import logging
import unicodedata
from functools import cache
from typing import Any

DEFAULT = "DejaVu Sans"
INVISIBLE = ("Mn", "Me", "Cf", "Cc")
"""Categories of Unicode that need no glyph, or are joined to the character before."""
log = logging.getLogger("cmtl_ir")
_named: set[str] = set()
"""Scripts that the log already named in this process."""


def make_readable(figure: Any) -> None:
    r"""Give every text of a figure fonts that have its characters.

    A character that no installed font has is shown by its code point, such as `\u96e8`. The log names the missing
    script once per process.
    """
    from matplotlib.text import Text
    from matplotlib.ticker import FixedLocator

    missing: set[str] = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            shown = [one.get_text() for one in axis.get_ticklabels()] if _is_named(axis, FixedLocator) else []
            if any(not text.isascii() for text in shown):
                missing |= set("".join(shown))
                axis.set_ticklabels([spelled(text) for text in shown])
    for text in figure.findobj(Text):
        content = text.get_text()
        if not content.isascii():
            missing |= set(content)
            text.set_text(spelled(content))
            text.set_fontfamily([DEFAULT, *_others(content)])
    _tell({one for one in missing if font_of(one) is None})


def _is_named(axis: Any, kind: type) -> bool:
    return isinstance(axis.get_major_locator(), kind)


def spelled(text: str) -> str:
    """Return text in which characters without a font are replaced by their code points."""
    return "".join(one if font_of(one) else f"\\u{ord(one):04x}" for one in text)


@cache
def font_of(character: str) -> str | None:
    """Return the family of an installed font that has a character, the default one first. `None` if none has it."""
    if character.isascii() or character.isspace() or unicodedata.category(character) in INVISIBLE:
        return DEFAULT
    known = _default()
    if ord(character) in known:
        return DEFAULT
    return next((family for family, characters in _others_installed().items() if ord(character) in characters), None)


def _others(text: str) -> list[str]:
    return sorted({family for one in text if (family := font_of(one)) is not None} - {DEFAULT})


@cache
def _default() -> frozenset[int]:
    from matplotlib import font_manager

    return frozenset(font_manager.get_font(font_manager.findfont(DEFAULT)).get_charmap())


@cache
def _others_installed() -> dict[str, frozenset[int]]:
    """Return family -> code points of the other installed upright fonts, without those for formulas."""
    from matplotlib import font_manager

    files = {one.name: one.fname for one in font_manager.fontManager.ttflist if one.style == "normal"}
    return {
        family: frozenset(font_manager.get_font(file).get_charmap())
        for family, file in sorted(files.items())
        if family != DEFAULT and not family.startswith(("cm", "STIX", "Last Resort"))
    }


def _tell(missing: set[str]) -> None:
    scripts = {unicodedata.name(one, "UNNAMED").split()[0] for one in missing} - _named
    if scripts:
        _named.update(scripts)
        log.warning(
            "figures: no installed font has the characters of %s; they are shown by their code points. "
            "Install a font that has them, such as Noto Sans.",
            ", ".join(sorted(scripts)),
        )
