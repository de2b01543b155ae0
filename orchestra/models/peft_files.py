"""A LoRA adapter in a folder, as peft saves it: what its files say of it, and what makes it useless or wrong.

Needs neither torch nor peft.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestra.errors import InputError
from orchestra.models import weights
from orchestra.models.cards import Card, card_at
from orchestra.models.serving import safetensors

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


def inspected(path: Path, *, name: str) -> Adapter:
    """What the files at `path` say of the adapter there.

    Raises:
        InputError: it is not a folder as peft saves it.
    """
    if not name or "@" in name or "+" in name:
        raise InputError(f"an adapter's name has no '@' and no '+', got {name!r}; the version is added to it")
    return read(path, name, None)


def read(path: Path, name: str, version: str | None) -> Adapter:
    """The adapter at `path`, called `name`; its version is the hash of its files where none is given.

    Raises:
        InputError: it is not a folder as peft saves it.
    """
    config = weights.remembered(path / CONFIG)
    if config is None or not (path / TENSORS).is_file():
        raise InputError(f"no LoRA adapter at {str(path)!r}: expected {CONFIG} and {TENSORS}, as peft saves them")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    return Adapter(
        name=name,
        version=version or hashed(path),
        path=path,
        rank=rank if isinstance(rank, int) else 0,
        alpha=float(alpha) if isinstance(alpha, int | float) else 0.0,
        base=str(config.get("base_model_name_or_path") or ""),
        rslora=config.get("use_rslora") is True,
        refusals=_refusals(config),
        card=card_at(path),
    )


def hashed(path: Path) -> str:
    """The version of an adapter that nobody gave one: a hash of its configuration and its tensors."""
    digest = hashlib.sha256()
    for file in (CONFIG, TENSORS):
        digest.update(weights.file_hash(path / file).encode())
    return digest.hexdigest()[:VERSION_DIGITS]


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
