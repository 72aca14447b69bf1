"""Lists of parameter keys and shapes in a short notation."""

from __future__ import annotations

import itertools
import re

Shapes = dict[str, tuple[int, ...]]


def keys(text: str, prefix: str = "") -> Shapes:
    """Expand tokens `name(shape)`, separated by white space, into the shape of every key.

    `{a,b}` in a name is a choice and `{0..3}` a range, every combination exists. `name+(shape)` stands for
    `name.weight` of that shape and `name.bias` of its first length. `prefix` goes in front of every name.
    """
    found: Shapes = {}
    for token in text.split():
        name, _, numbers = token.rstrip(")").partition("(")
        shape = tuple(int(number) for number in numbers.split(",") if number)
        for key in expanded(prefix + name.removesuffix("+")):
            found |= {f"{key}.weight": shape, f"{key}.bias": shape[:1]} if name.endswith("+") else {key: shape}
    return found


def expanded(name: str) -> list[str]:
    """Every name that the choices in braces allow."""
    pieces = re.split(r"\{(.*?)\}", name)  # text and choices in turn
    choices = [_choices(piece) if number % 2 else [piece] for number, piece in enumerate(pieces)]
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _choices(text: str) -> list[str]:
    if ".." in text:
        first, last = text.split("..")
        return [str(number) for number in range(int(first), int(last) + 1)]
    return text.split(",")


def attention_block(prefix: str, channels: int) -> Shapes:
    """A channel attention block of MPRNet and DGUNet."""
    c, reduced = channels, channels // 4
    return keys(
        f"CA.conv_du.0.weight({reduced},{c},1,1) CA.conv_du.2.weight({c},{reduced},1,1) "
        f"body.{{0,2}}.weight({c},{c},3,3) body.1.weight(1)",
        prefix,
    )
