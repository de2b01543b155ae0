"""What `orchestra serve` leaves about a running server, so that clients on this machine know what HTTP does not say.

A record is believed only while the process that left it lives and the server still reads the weights it names.
"""

import json
import os
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from pathlib import Path

from orchestra.ledger import Price
from orchestra.models import calibration, weights
from orchestra.models.calibration import Calibration

BATCH = 16
"""Requests at once that a price is measured at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A server on this machine."""

    url: str
    model: str
    """Name of the base weights on the server."""
    root: str
    """Folder it read them from."""
    weights_sha256: str
    """Of that folder."""
    packed_sha256: str = ""
    """Of the GGUF file the folder was unpacked from; empty means it was not."""
    dtype: str
    device: str
    """Such as `vllm 0.32.0 on cpu`."""
    threads: int
    tools: bool
    """Whether it parses tool calls out of replies."""
    processed_logprobs: bool
    """Whether log-probabilities are of the distribution sampled from."""
    pid: int
    """Of the process that started it and will end it."""
    started_at: str

    def write(self) -> None:
        """Leave it where clients look."""
        weights.write_whole(_file(self.url), json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")

    def forget(self) -> None:
        """Take it away; doing so twice is harmless."""
        _file(self.url).unlink(missing_ok=True)

    @property
    def hashes(self) -> tuple[str, ...]:
        """What a card may call its weights: by their file, and by the folder they were unpacked to."""
        return tuple(digest for digest in (self.packed_sha256, self.weights_sha256) if digest)

    @property
    def circumstances(self) -> str:
        """What a measurement of its speed holds for."""
        return calibration.circumstances(self.dtype, self.device, self.threads, BATCH)

    @property
    def speed_file(self) -> Path:
        """Where measurements of its speed are kept."""
        return weights.cache_dir() / "speeds" / f"vllm-{self.weights_sha256[:16]}.json"

    def speed(self) -> Calibration | None:
        """The latest measurement under these circumstances; `None` when there is none."""
        return calibration.read(self.speed_file, self.circumstances, self.weights_sha256)

    def price(self, machine_usd_per_hour: Decimal) -> Price | None:
        """Per token, from the measured speed; `None` when it was not measured."""
        speed = self.speed()
        return None if speed is None else speed.price(machine_usd_per_hour)


def found(url: str) -> Record | None:
    """The record of the server at `url`; `None` when nobody on this machine runs it."""
    return _read(_file(url))


def running(model: str) -> tuple[Record, ...]:
    """Every server on this machine that serves `model`."""
    records = (_read(path) for path in sorted(_folder().glob("*.json")))
    return tuple(record for record in records if record is not None and record.model == model)


def _read(path: Path) -> Record | None:
    entry = weights.remembered(path)
    if entry is None or set(entry) != {field.name for field in fields(Record)}:
        return None
    record = Record(**entry)  # type: ignore[arg-type]  # written by `write`
    return record if _lives(record.pid) else None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _folder() -> Path:
    return weights.cache_dir() / "servers"


def _file(url: str) -> Path:
    place = url.partition("://")[2].replace("localhost", "127.0.0.1").replace(":", "-").replace("/", "-")
    return _folder() / f"{place}.json"
