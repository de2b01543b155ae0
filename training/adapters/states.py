"""Tensors in files that are whole or not there: safetensors alone, never pickles."""

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
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
        with telling_no_room(path, len(content)):
            path.parent.mkdir(parents=True, exist_ok=True)
            with staging.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            staging.replace(path)
    except OSError:
        staging.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def telling_no_room(path: Path, size: int) -> Iterator[None]:
    """A full disk as a `DiskFull` that says what for and how to go on; any other failure as it is.

    Args:
        path: that is written.
        size: bytes that are.
    """
    try:
        yield
    except OSError as cause:
        if cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull(
                f"no room for {path.name!r} ({size:,} bytes) in {str(path.parent)!r}: {cause.strerror}; "
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
