"""Opening, sharing and closing embedded models, and measuring their speed.

Models opened by the same path with the same settings share one engine, so that their requests batch together; the last
one closed ends it.
"""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

import torch

from orchestra.errors import InputError
from orchestra.models import adapters, calibration, weights
from orchestra.models.calibration import Calibration
from orchestra.models.local.engine import Engine, Limits
from orchestra.models.local.loading import DTYPES, dense_folder, free_bytes, load, sensible_threads
from orchestra.models.local.model import LocalModel, Opened, run_rows
from orchestra.models.local.prompts import Prompts
from orchestra.models.local.shelf import Shelf, hashes_of
from orchestra.plugins import closest

DEFAULT_BATCH = 16
"""Requests at once that a price is measured at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `open_local` takes beside the name."""

    deterministic: bool = False
    """float32, one request at a time, no reuse of earlier work: a reply depends on its request alone."""
    dtype: str | None = None
    """`bfloat16`, `float16` or `float32`; `None` picks what this machine is fast in."""
    device: str | None = None
    """Of torch, such as `cpu` or `cuda:0`; `None` picks CUDA where there is one."""
    threads: int | None = None
    """Of one pass on a CPU; `None` takes what this process may use."""
    rows: int = 64
    """Most requests in one pass."""
    kept_mib: int | None = None
    """Most memory of transcripts kept for reuse; 0 keeps none, `None` an eighth of what this process may use."""

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in DTYPES:
            raise InputError(f"no number format {self.dtype!r} for a local model; {closest(self.dtype, DTYPES)}")
        if self.deterministic and self.dtype not in (None, "float32"):
            raise InputError(f"a deterministic model computes in float32, not {self.dtype!r}; leave dtype out")
        if self.rows < 1 or (self.kept_mib or 0) < 0 or (self.threads is not None and self.threads < 1):
            raise InputError(f"rows and threads are at least 1 and kept_mib at least 0, got {self}")


@dataclass(slots=True)
class _Shared:
    opened: Opened
    holders: int


_OPEN: dict[tuple[str, Settings], _Shared] = {}
_LOCK = threading.Lock()


def open_local(
    name: str,
    *,
    deterministic: bool = False,
    machine_usd_per_hour: Decimal = Decimal("0.10"),
    dtype: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    rows: int = 64,
    kept_mib: int | None = None,
) -> LocalModel:
    """The embedded model `name`: a pulled model, a folder, a GGUF file, or a hub id that is on this machine.

    `BASE+ADAPTER` is a LoRA adapter over it: a name in the user's folder of adapters (its newest version, or
    `name@version`), one that a trainer in this process has published, or the path of a folder.

    The first opening of a model on a machine measures its speed for a few seconds, since its price follows from it.

    Args:
        name: such as `smollm2-135m-instruct`, `smollm2-135m-instruct+critic` or `/path/to/folder`, without the prefix
            `local/`.
        deterministic: float32, one request at a time: a reply depends on its request alone.
        machine_usd_per_hour: what an hour of this machine costs; sets the price per token.
        dtype: `bfloat16`, `float16` or `float32`; `None` picks what this machine is fast in.
        device: of torch; `None` picks CUDA where there is one.
        threads: of one pass on a CPU; `None` takes what this process may use.
        rows: most requests in one pass.
        kept_mib: most memory of transcripts kept for reuse; `None` takes an eighth of what this process may use. Games
            and talks side by side want all of theirs kept: one that was dropped is read again from its beginning.

    Raises:
        orchestra.models.weights.MissingWeights: when the weights are not here; the message names the command.
        orchestra.errors.InputError: when a setting or the weights are wrong.
        orchestra.gate.NotPublished: when the adapter computes something else than the probe beside it says.
    """
    settings = Settings(
        deterministic=deterministic, dtype=dtype, device=device, threads=threads, rows=rows, kept_mib=kept_mib
    )
    base, adapter = adapters.split_name(name)
    path, opened, release = shared_engine(base, settings)
    try:
        speed = _kept_calibration(path, opened) or calibrate_opened(path, base, opened)
        price = speed.price(machine_usd_per_hour)
        served = None if adapter is None else opened.shelf.hold(adapter)
    except BaseException:
        release()
        raise
    return LocalModel(f"local/{name}", opened, price, release, adapter=served)


def shared_engine(base: str, settings: Settings) -> tuple[Path, Opened, Callable[[], None]]:
    """Where the weights of `base` lie, their engine, opened once for all who ask with these settings, and its release.

    Raises:
        orchestra.models.weights.MissingWeights: when the weights are not here; the message names the command.
        orchestra.errors.InputError: when they are no language model.
    """
    path = weights.path_of(base).resolve()
    key = (str(path), settings)
    with _LOCK:
        if key not in _OPEN:
            _OPEN[key] = _Shared(_opened(path, base, settings), 0)
        _OPEN[key].holders += 1
        return path, _OPEN[key].opened, partial(_release, key)


def prepare(path: Path) -> Path:
    """Do now what the first opening would otherwise do: unpack a GGUF file. The folder transformers reads."""
    return dense_folder(path)


def calibrate(
    name: str, *, batch: int = DEFAULT_BATCH, seconds: float = 8.0, deterministic: bool = False
) -> Calibration:
    """Measure the speed of `name` anew and keep the result.

    Args:
        name: as for `open_local`.
        batch: requests at once; a price is taken from a measurement at 16, or 1 when deterministic.
        seconds: about how long it may take.
        deterministic: measure the deterministic form.
    """
    path = weights.path_of(name).resolve()
    settings = Settings(deterministic=deterministic, rows=max(batch, 64))
    opened = _opened(path, name, settings)
    try:
        return calibrate_opened(path, name, opened, batch=1 if deterministic else batch, seconds=seconds)
    finally:
        opened.engine.close()


def calibrate_opened(
    path: Path, name: str, opened: Opened, *, batch: int | None = None, seconds: float = 3.0
) -> Calibration:
    """Measure an open model and keep the result beside its weights."""
    batch = batch or opened.batch
    read_speed, write_speed = calibration.measure(
        lambda rows, prompt_tokens, reply_tokens: run_rows(opened, rows, prompt_tokens, reply_tokens),
        batch,
        seconds=seconds,
    )
    measured = Calibration(
        model=name,
        weights_sha256=opened.weights_sha256,
        dtype=opened.loaded.dtype,
        device=opened.loaded.device,
        threads=opened.threads,
        batch=batch,
        input_tokens_per_second=read_speed,
        output_tokens_per_second=write_speed,
        measured_at=calibration.now(),
    )
    measured.write(_calibration_file(path))
    return measured


def _opened(path: Path, name: str, settings: Settings) -> Opened:
    loaded = load(path, dtype="float32" if settings.deterministic else settings.dtype, device=settings.device)
    threads = settings.threads or sensible_threads()
    if settings.deterministic:
        limits = Limits(rows=1, kept_bytes=0)
    else:
        free = free_bytes(loaded.device)
        kept_bytes = free // 8 if settings.kept_mib is None else settings.kept_mib << 20
        active_bytes = min(Limits().active_bytes, free // 6)
        limits = Limits(rows=settings.rows, active_bytes=active_bytes, kept_bytes=kept_bytes)
    chosen = threads if threads != torch.get_num_threads() else None
    engine = Engine(loaded.decoder, limits, threads=chosen)
    return Opened(
        loaded=loaded,
        engine=engine,
        shelf=Shelf(engine, loaded.layers, path, hashes_of(path, dense_folder(path)), vocabulary=loaded.vocabulary),
        prompts=Prompts(loaded.tokenizer, loaded.end_ids, name),
        weights_sha256=weights.content_hash(path),
        deterministic=settings.deterministic,
        threads=threads,
        batch=min(DEFAULT_BATCH, limits.rows),
    )


def _kept_calibration(path: Path, opened: Opened) -> Calibration | None:
    key = calibration.circumstances(opened.loaded.dtype, opened.loaded.device, opened.threads, opened.batch)
    return calibration.read(_calibration_file(path), key, opened.weights_sha256)


def _calibration_file(path: Path) -> Path:
    """Beside pulled weights; for weights elsewhere, in the user's cache under their path's hash."""
    cache = weights.cache_dir()
    if path.is_relative_to((cache / "models").resolve()):
        return (path if path.is_dir() else path.parent) / weights.SPEED_FILE
    return cache / "speeds" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.json"


def _release(key: tuple[str, Settings]) -> None:
    with _LOCK:
        shared = _OPEN.get(key)
        if shared is None:
            return
        shared.holders -= 1
        if shared.holders > 0:
            return
        del _OPEN[key]
    shared.opened.engine.close()
