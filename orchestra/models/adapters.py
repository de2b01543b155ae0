"""LoRA adapters on this machine: what one is, its card, its place in the user's folder, and what makes one useless.

An adapter is a component: weights as peft saves them, and beside them a card that says what they were trained over, by
which recipe, from which episodes, and what they were measured to be worth. Its version is part of its name wherever it
is used, `name@version`, and always means one set of weights. Needs neither torch nor peft.
"""

import hashlib
import json
import math
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orchestra.errors import InputError
from orchestra.models import weights
from orchestra.models.cards import CARD, NAME, Card, card_at
from orchestra.models.serving import safetensors
from orchestra.models.serving.probes import FILE as PROBE
from orchestra.plugins import closest

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
VERSION_DIGITS = 12
"""Hexadecimal digits of a version that is a hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A LoRA adapter on disk, as it was when it was looked at."""

    name: str
    version: str
    """Hash of its files, unless its card or its folder in the user's cache gives it another."""
    path: Path
    rank: int
    alpha: float
    base: str
    """What it says it was trained over; empty when it does not."""
    rslora: bool = False
    """Whether alpha is divided by the square root of the rank instead of the rank."""
    refusals: tuple[str, ...] = ()
    """In what it is more than plain LoRA on linear layers."""
    card: Card | None = None
    """`None` means it has none."""

    @property
    def served(self) -> str:
        """What a server calls it."""
        return f"{self.name}@{self.version}"

    @property
    def scale(self) -> float:
        """What `B A x` is multiplied by."""
        return scale_of(self.rank, self.alpha, rslora=self.rslora)


def scale_of(rank: int, alpha: float, *, rslora: bool = False) -> float:
    """What `B A x` is multiplied by; 0 for a rank that says nothing.

    >>> scale_of(16, 32), scale_of(16, 32, rslora=True)
    (2.0, 8.0)
    """
    if rank <= 0:
        return 0.0
    return alpha / (math.sqrt(rank) if rslora else rank)


def served_name(name: str, version: str) -> str:
    """`name@version`.

    Raises:
        InputError: one of them cannot be part of a model's name.
    """
    for part in (name, version):
        if not re.fullmatch(NAME, part):
            raise InputError(f"{part!r} cannot be part of an adapter's name; use letters, digits, '.', '-' and '_'")
    return f"{name}@{version}"


def split_name(name: str) -> tuple[str, str | None]:
    """Base and adapter of a model's name; `None` where it names no adapter.

    >>> split_name("smollm2-135m-instruct+critic@3f2a9c01d4e5")
    ('smollm2-135m-instruct', 'critic@3f2a9c01d4e5')

    Raises:
        InputError: one of them is empty.
    """
    if "+" not in name or Path(name).expanduser().exists():
        return name, None
    places = [at for at, letter in enumerate(name) if letter == "+"]
    at = next((at for at in places if _is_here(name[:at])), places[0])
    base, adapter = name[:at], name[at + 1 :]
    if not base or not adapter:
        raise InputError(f"{name!r} names no adapter over a base; write BASE+ADAPTER or BASE+ADAPTER@VERSION")
    return base, adapter


def over(base: str, served: str) -> str:
    """Name of the model that is the adapter `served` over `base`; of the base alone where that is empty.

    >>> over("vllm/qwen@http://127.0.0.1:8000", "critic@3f2a9c01d4e5")
    'vllm/qwen+critic@3f2a9c01d4e5@http://127.0.0.1:8000'
    """
    if not served:
        return base
    at = max(base.find("@http://"), base.find("@https://"))
    name, url = (base, "") if at < 0 else (base[:at], base[at:])
    return f"{name}+{served}{url}"


def folder() -> Path:
    """Where adapters lie that models are opened with by name: one folder `name@version` each."""
    return weights.cache_dir() / "adapters"


def installed() -> tuple[Adapter, ...]:
    """Every adapter in the user's folder, by name, the newest version of each first."""
    places = sorted(folder().glob("*@*")) if folder().is_dir() else []
    found = [_at_home(place) for place in places if (place / CONFIG).is_file() and not place.name.startswith(".")]
    newest_first = sorted(found, key=_age)
    return tuple(sorted(newest_first, key=lambda adapter: adapter.name))


def found(wanted: str) -> Adapter:
    """The adapter `wanted`: `name`, its newest version; `name@version`; or the path of a folder.

    Raises:
        InputError: there is none; the closest name is offered.
    """
    here = installed()
    match = next((adapter for adapter in here if wanted in (adapter.served, adapter.name)), None)
    if match is not None:
        return match
    path = Path(wanted).expanduser()
    if path.is_dir():
        return _at(path)
    if path.is_absolute() or "/" in wanted:
        raise InputError(f"no LoRA adapter at {wanted!r}: expected a folder with {CONFIG} and {TENSORS}")
    name, _, version = wanted.partition("@")
    versions = [adapter.served for adapter in here if adapter.name == name]
    if version and versions:
        raise InputError(f"adapter {name!r} is not here in version {version!r}; there is {', '.join(versions)}")
    near = closest(name, {adapter.name for adapter in here})
    raise InputError(f"no adapter {wanted!r} in {str(folder())!r}; {near}; give a folder, or 'orchestra models add' it")


def inspected(path: Path, *, name: str) -> Adapter:
    """What the files at `path` say of the adapter there.

    Raises:
        InputError: it is not a folder as peft saves it.
    """
    if not name or "@" in name or "+" in name:
        raise InputError(f"an adapter's name has no '@' and no '+', got {name!r}; the version is added to it")
    return _read(path, name, None)


def defects(adapter: Adapter, root: Path | None, *, trained: bool = True) -> tuple[str, ...]:
    """Everything that makes an adapter useless or wrong, before a server sees it.

    Args:
        adapter: as `inspected`.
        root: folder of the base weights; `None` leaves shapes to the server.
        trained: it must have been; its trainer may publish it before.
    """
    found = list(adapter.refusals)
    if adapter.rank <= 0:
        found.append(
            f"its rank is {adapter.rank}, so it says nothing of its size (exported without its configuration?)"
        )
    if adapter.alpha == 0:
        found.append("its alpha is 0, which multiplies everything it learned by zero")
    tensors = safetensors.tensors(adapter.path / TENSORS)
    outputs = [tensor for tensor in tensors if ".lora_B." in tensor.name or ".lora_embedding_B" in tensor.name]
    if not outputs:
        found.append("it holds no LoRA matrices")
    elif trained and all(tensor.is_zero for tensor in outputs):
        found.append("every B matrix is zero, as before the first step of training: it changes nothing")
    if not all(tensor.is_finite for tensor in tensors):
        found.append("it holds numbers that are infinite or not numbers")
    if root is not None:
        found.extend(_misfits(adapter, {tensor.name: tensor.shape for tensor in tensors}, safetensors.shapes(root)))
    return tuple(found)


def add(path: Path | str) -> Adapter:
    """The adapter in the folder `path`, copied into the user's folder, where its name finds it.

    Raises:
        InputError: it is no adapter there, or a useless one, or that version is there with other numbers.
    """
    # As an absolute path: a folder that is called as an adapter here is still the folder.
    adapter = found(str(Path(path).expanduser().resolve()))
    served_name(adapter.name, adapter.version)
    broken = defects(adapter, None)
    if broken:
        raise InputError(f"adapter {adapter.served!r} at {str(path)!r} cannot be used: {'; '.join(broken)}")
    return snapshot(adapter)


def snapshot(adapter: Adapter) -> Adapter:
    """The same adapter in a folder of its own that nobody writes to again.

    Its card and its probe come with it. A probe that is missing there is brought later, too: what an adapter computes,
    and so its version, does not depend on it, and without it nobody could put the adapter through the gate.

    Raises:
        InputError: its files changed while they were copied.
    """
    target = folder() / adapter.served
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=".part-"))
        try:
            for file in (CONFIG, TENSORS, *(f for f in (CARD, PROBE) if (adapter.path / f).is_file())):
                shutil.copyfile(adapter.path / file, staging / file)
            if _hashed(staging) != _hashed(adapter.path):
                raise InputError(f"the adapter at {str(adapter.path)!r} is being written to; load it when it is whole")
            if not target.is_dir():
                staging.replace(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    elif not adapter.path.samefile(target) and _hashed(target) != _hashed(adapter.path):
        raise InputError(f"{adapter.served!r} is in {str(folder())!r} with other numbers; give these a new version")
    elif (adapter.path / PROBE).is_file() and not (target / PROBE).is_file():
        weights.write_whole(target / PROBE, (adapter.path / PROBE).read_text(encoding="utf-8"))
    return replace(adapter, path=target.resolve())


def write(
    name: str,
    version: str,
    tensors: Mapping[str, NDArray[np.float32]],
    *,
    rank: int,
    alpha: float,
    base: str,
    rslora: bool,
) -> Adapter:
    """The adapter of these numbers in the user's folder, as peft would save it; one that is there already stays.

    Args:
        name: without a version.
        version: of these numbers, and of no others.
        tensors: by peft's names.
        rank: of its matrices.
        alpha: as peft has it.
        base: what it was trained over.
        rslora: whether alpha is divided by the square root of the rank.

    Raises:
        InputError: that version is there with other numbers, or name or version cannot be part of a model's name.
    """
    target = folder() / served_name(name, version)
    layers = {tensor.partition(".lora_")[0].rpartition(".")[2] for tensor in tensors}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "use_rslora": rslora,
        "target_modules": sorted(layers),
        "bias": "none",
        "lora_dropout": 0.0,
        "inference_mode": True,
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=".part-"))
    try:
        (staging / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        safetensors.write(staging / TENSORS, tensors)
        if not target.is_dir():
            staging.replace(target)
        elif _hashed(staging) != _hashed(target):
            raise InputError(f"{target.name!r} is there already with other numbers; give these a new version")
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return _at_home(target.resolve())


_PLAIN: Mapping[str, str] = {
    "use_dora": "DoRA",
    "modules_to_save": "whole layers beside LoRA (modules_to_save)",
    "trainable_token_indices": "trained tokens of the embedding",
    "target_parameters": "LoRA on parameters that are no linear layer",
    "rank_pattern": "ranks that differ by layer (rank_pattern)",
    "alpha_pattern": "alphas that differ by layer (alpha_pattern)",
    "lora_bias": "a bias in LoRA itself",
    "fan_in_fan_out": "transposed layers (fan_in_fan_out)",
    "layer_replication": "repeated layers",
    "alora_invocation_tokens": "activated LoRA, which begins at some tokens",
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal LoRA",
    "arrow_config": "routing between adapters (Arrow)",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "velora_config": "VeLoRA",
}
"""Settings of peft under which an adapter is more than plain LoRA, when they are set, and what they mean."""
_CHANGE_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Beginnings of `init_lora_weights` that subtract something from the base weights."""


def _refusals(config: Mapping[str, object]) -> tuple[str, ...]:
    found = [
        f"it has {words}; only plain LoRA on linear layers is supported"
        for key, words in _PLAIN.items()
        if config.get(key)
    ]
    kind = config.get("peft_type")
    if kind not in (None, "LORA"):
        found.append(f"it is of the kind {kind!r}; only LoRA is supported")
    if config.get("bias", "none") not in (None, "none"):
        found.append(f"it changes biases of the base (bias={config['bias']!r}); only plain LoRA is supported")
    begun = str(config.get("init_lora_weights", "")).lower()
    if begun.startswith(_CHANGE_THE_BASE):
        found.append(f"it was begun by {begun!r}, which changes the base; convert it to plain LoRA when it is saved")
    return tuple(found)


def _misfits(
    adapter: Adapter, shapes: Mapping[str, tuple[int, ...]], base_shapes: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """Where the matrices do not fit the weights they are meant to change: another base, or another rank."""
    for name, shape in shapes.items():
        module, part, _ = name.partition(".lora_")
        side = name[len(module) + len(part) : len(module) + len(part) + 1]
        wanted = base_shapes.get(f"{module.removeprefix('base_model.model.')}.weight")
        if not part or side not in ("A", "B") or len(shape) != 2:
            continue
        if wanted is None:
            return [f"it changes {module.removeprefix('base_model.model.')!r}, which the base does not have"]
        expected = (adapter.rank, wanted[1]) if side == "A" else (wanted[0], adapter.rank)
        if adapter.rank > 0 and shape != expected:
            return [
                f"{name!r} is {shape[0]} × {shape[1]} where this base and rank {adapter.rank} ask for "
                f"{expected[0]} × {expected[1]}: it was trained over another base ({adapter.base or 'it names none'})"
            ]
    return []


def _read(path: Path, name: str, version: str | None) -> Adapter:
    config = weights.remembered(path / CONFIG)
    if config is None or not (path / TENSORS).is_file():
        raise InputError(f"no LoRA adapter at {str(path)!r}: expected {CONFIG} and {TENSORS}, as peft saves them")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    return Adapter(
        name=name,
        version=version or _hashed(path),
        path=path,
        rank=rank if isinstance(rank, int) else 0,
        alpha=float(alpha) if isinstance(alpha, int | float) else 0.0,
        base=str(config.get("base_model_name_or_path") or ""),
        rslora=config.get("use_rslora") is True,
        refusals=_refusals(config),
        card=card_at(path),
    )


def _at(path: Path) -> Adapter:
    """The adapter at a path, called what its card says, else what its folder is called."""
    card = card_at(path)
    name, _, version = path.resolve().name.partition("@")
    if card is not None:
        return _read(path, card.name, card.version)
    return _read(path, name.replace("+", "-") or "adapter", version or None)


def _at_home(path: Path) -> Adapter:
    """The adapter in a folder `name@version` of the user's."""
    name, _, version = path.name.partition("@")
    return _read(path, name, version)


def _age(adapter: Adapter) -> float:
    """Smaller is newer."""
    return -(adapter.path / CONFIG).stat().st_mtime


def _hashed(path: Path) -> str:
    digest = hashlib.sha256()
    for file in (CONFIG, TENSORS):
        digest.update(weights.file_hash(path / file).encode())
    return digest.hexdigest()[:VERSION_DIGITS]


def _is_here(name: str) -> bool:
    try:
        weights.path_of(name)
    except InputError:
        return False
    return True
