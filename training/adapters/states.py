"""Tensors in files that are whole or not there: safetensors alone, never pickles."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from orchestra.errors import InputError, OrchestraError


class DiskFull(OrchestraError, OSError):
    """There was no room to save; what was saved before is still there."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write `tensors` to `path`, durably; a file that was there is replaced at once or stays as it was.

    Raises:
        DiskFull: there is no room.
    """
    write_bytes(path, save(dict(tensors)))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, durably and at once.

    Raises:
        DiskFull: there is no room.
    """
    staging = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with staging.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        staging.replace(path)
    except OSError as cause:
        staging.unlink(missing_ok=True)
        if cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull(
                f"no room for {path.name!r} ({len(content):,} bytes) in {str(path.parent)!r}: {cause.strerror}; "
                "free some and go on with --resume, earlier checkpoints are still there"
            ) from cause
        raise


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in the file `path`, on the CPU.

    Raises:
        InputError: there are none.
    """
    try:
        found: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as cause:
        raise InputError(f"no tensors in {str(path)!r}: {cause}") from cause
    return found
