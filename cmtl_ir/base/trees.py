"""Trees of tensors and plain values, as JSON and safetensors (huggingface.co/docs/safetensors)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def to_device(tree: Any, device: torch.device) -> Any:
    """Return a tree of dicts and lists with its tensors on a device."""
    if isinstance(tree, Tensor):
        return tree.to(device)
    if isinstance(tree, dict):
        return {key: to_device(value, device) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(to_device(value, device) for value in tree)
    return tree


DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.bool: "BOOL",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
}  # fmt: skip
_KIND = "$"  # marks values that JSON cannot express


def to_json(value: Any, path: tuple[Any, ...], tensors: dict[str, Tensor]) -> Any:
    """Return a value as JSON data. Its tensors are added to `tensors` under their path."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else {_KIND: "int", "hex": hex(value)}
    if isinstance(value, float):
        return value if math.isfinite(value) else {_KIND: "float", "text": str(value)}
    if isinstance(value, Tensor):
        return _put_tensor(value, path, tensors)
    if isinstance(value, list | tuple):
        items = [to_json(item, (*path, number), tensors) for number, item in enumerate(value)]
        return items if isinstance(value, list) else {_KIND: "tuple", "items": items}
    if isinstance(value, Mapping) and all(isinstance(key, str | int) and not isinstance(key, bool) for key in value):
        items = [[key, to_json(item, (*path, key), tensors)] for key, item in value.items()]
        plain = _KIND not in value and all(isinstance(key, str) for key in value)
        return dict(items) if plain else {_KIND: "dict", "items": items}
    raise TypeError(
        f"{'/'.join(map(str, path))}: a {type(value).__name__} cannot be saved: use tensors and plain values"
    )


def _put_tensor(value: Tensor, path: tuple[Any, ...], tensors: dict[str, Tensor]) -> dict[str, Any]:
    if value.dtype not in DTYPES or value.layout != torch.strided:
        raise TypeError(f"{'/'.join(map(str, path))}: a {value.layout} tensor of {value.dtype} cannot be saved")
    name = "/".join(map(str, path))
    while name in tensors or name == "__metadata__":
        name += "'"
    tensors[name] = value
    entry: dict[str, Any] = {_KIND: "tensor", "name": name}
    stride = list(value.stride())
    if stride != list(torch.empty(value.shape, device="meta").stride()) and _is_dense(value.shape, stride):
        entry["stride"] = stride  # channels_last and similar; views with gaps are restored as contiguous
    return entry


def _is_dense(shape: Iterable[int], stride: Iterable[int]) -> bool:
    """Return whether a layout is a permutation of a contiguous one, without gaps or overlaps."""
    expected = 1
    for step, size in sorted(zip(stride, shape, strict=True)):
        if size != 1 and step != expected:
            return False
        expected *= size
    return expected > 0


def from_json(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the value that `to_json` made JSON data and tensors of."""
    if isinstance(value, list):
        return [from_json(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    match value.get(_KIND):
        case None:
            return {key: from_json(item, tensors) for key, item in value.items()}
        case "tensor":
            tensor = tensors[value["name"]]
            stride = value.get("stride")
            return (
                tensor
                if stride is None
                else torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype).copy_(tensor)
            )
        case "tuple":
            return tuple(from_json(item, tensors) for item in value["items"])
        case "dict":
            return {key: from_json(item, tensors) for key, item in value["items"]}
        case "int":
            return int(value["hex"], 16)
    return float(value["text"])


def safetensors_pieces(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[Any]:
    """Yield the safetensors file in pieces, so that saving needs the memory of one tensor at a time."""
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # widest first: all are aligned
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name in order:
        end = offset + tensors[name].numel() * tensors[name].element_size()
        header[name] = {
            "dtype": DTYPES[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in order:
        yield tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
