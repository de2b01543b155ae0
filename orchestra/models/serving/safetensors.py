"""Tensors of a `.safetensors` file without torch: their names and shapes, whether their numbers are sound; and writing.

The format: eight bytes with the length of a JSON header, the header, the tensors' bytes one after the other.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestra.errors import InputError

_FORMATS = {
    "F32": (np.uint32, 0x7FFFFFFF, 0x7F800000),
    "F16": (np.uint16, 0x7FFF, 0x7C00),
    "BF16": (np.uint16, 0x7FFF, 0x7F80),
}
"""Number format -> its bits as an integer, all of them but the sign, and those of the exponent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor of a file."""

    name: str
    shape: tuple[int, ...]
    is_zero: bool
    """Whether every number is zero."""
    is_finite: bool
    """Whether no number is infinite or not a number."""


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor in the file `path`, or in all such files of the folder `path`.

    Raises:
        InputError: a file is damaged.
    """
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    return {name: tuple(entry["shape"]) for file in files for name, entry in _header(file)[0].items()}


def tensors(path: Path) -> tuple[Tensor, ...]:
    """Every tensor of the file `path`, with what its numbers are.

    Raises:
        InputError: the file is damaged, or a number format is not one of 16 or 32 bits.
    """
    header, begins = _header(path)
    data = np.memmap(path, dtype=np.uint8, mode="r", offset=begins)
    found = []
    for name, entry in header.items():
        if entry["dtype"] not in _FORMATS:
            raise InputError(f"{name!r} in {str(path)!r} has the number format {entry['dtype']!r}; save it as float32")
        kind, magnitude, exponent = _FORMATS[entry["dtype"]]
        first, last = entry["data_offsets"]
        bits = np.frombuffer(data[first:last].tobytes(), dtype=kind) & magnitude
        found.append(
            Tensor(
                name=name,
                shape=tuple(entry["shape"]),
                is_zero=not bits.any(),
                is_finite=not ((bits & exponent) == exponent).any(),
            )
        )
    return tuple(found)


def write(path: Path, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Save `arrays`, in float32, in the order of their names."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in sorted(arrays):
        begin, end = end, end + 4 * arrays[name].size
        header[name] = {"dtype": "F32", "shape": list(arrays[name].shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # readers map the numbers into memory, which asks them to be aligned
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(arrays):
            file.write(np.ascontiguousarray(arrays[name], dtype="<f4").tobytes())


def _header(path: Path) -> tuple[dict[str, Any], int]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        return header, 8 + length
    except (OSError, ValueError, AttributeError) as cause:
        raise InputError(f"{str(path)!r} is no whole .safetensors file ({cause}); save it again") from cause
