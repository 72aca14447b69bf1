"""Files of weights: recognized by their content, read without unpickling anything, refused with the way out."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from cmtl_ir.base.errors import UserError

TRUNCATED = "it may be cut short or damaged: compare its size or checksum with those of its source, or fetch it again"
HEAD = 512
"""Number of bytes that tell what a file is."""
SHOWN = 5
"""Names that a message lists at most."""


class WeightsError(UserError):
    """A weights file that does not fit or cannot be read; names the file and the first keys in question."""


class WeightsMisfit(WeightsError):
    """Weights of another network, or of the same network with other fields."""


def read_weights(path: Path) -> Any:
    """Return what a .safetensors, .pth or .ckpt file holds, whatever its name ends with.

    Raises WeightsError naming the file if it is missing, of another kind, damaged, or holds more than tensors.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: {'is not a file' if path.exists() else 'no such file'}; give a file of weights")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}; make the file readable") from error
    if (kind := _other_kind(head, path)) is not None:
        raise WeightsError(f"{path}: {kind}")
    try:
        if head[8:9] == b"{" or (path.suffix == ".safetensors" and not head.startswith((b"PK", b"\x80"))):
            return load_file(path)
        with path.open("rb") as file:  # torch.load would take a path's suffix for its kind
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path}: {_unpicklable(path)}") from error
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({_first_line(error)}); {TRUNCATED}") from error
    except Exception as error:  # torch.load raises whatever the bytes provoke: KeyError, struct.error, AssertionError
        raise WeightsError(f"{path}: not a readable weights file ({_first_line(error)}); {TRUNCATED}") from error


def _other_kind(head: bytes, path: Path) -> str | None:
    """What a file is instead of weights, with the way out; `None` if it may be weights."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return f"is empty; {TRUNCATED}"
    if head.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer instead of the file that it stands for; fetch the file with `git lfs pull`"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "is a web page, not weights; open its address in a browser and save the file behind its download link"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!")):
        return "is a compressed archive; unpack it and give the weights file that it holds"
    if tarfile.is_tarfile(path):
        return "is a tar archive; unpack it and give the weights file that it holds"
    if head.startswith(b"\x89HDF"):
        return "is an HDF5 file (Keras); give the authors' PyTorch weights (.pth, .ckpt or .safetensors)"
    if _is_text(head):
        return "is a text file, not weights; give a .pth, .ckpt or .safetensors file"
    return None


def _is_text(head: bytes) -> bool:
    return all(byte in b"\t\n\r\f" or byte >= 0x20 for byte in head) and not head.startswith(b"PK")


def _unpicklable(path: Path) -> str:
    """Words for a file that holds objects, or bytes that are no pickle. Nothing is unpickled."""
    try:
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # not a zip archive, or a damaged one
        names = []
    if not names:
        return f"not a readable weights file, or it holds objects next to tensors; {TRUNCATED}"
    return (
        f"holds objects next to tensors ({listed(names)}). They are never unpickled here, because that runs code from "
        "the file; ask its authors for the tensors alone (the state_dict, or a .safetensors file)"
    )


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def listed(names: list[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
