"""LoRA adapters on this machine: their names, and their place in the user's folder.

An adapter is a component: weights as peft saves them (`orchestra.models.peft_files`), and beside them a card that says
what they were trained over, by which recipe, from which episodes, and what they were measured to be worth. Its version
is part of its name wherever it is used, `name@version`, and always means one set of weights. Needs neither torch nor
peft.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orchestra.errors import InputError
from orchestra.models import weights
from orchestra.models.cards import CARD, NAME, card_at
from orchestra.models.peft_files import CONFIG, TENSORS, Adapter, defects, hashed, read
from orchestra.models.serving import safetensors
from orchestra.models.serving.probes import FILE as PROBE
from orchestra.plugins import closest


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
            if hashed(staging) != hashed(adapter.path):
                raise InputError(f"the adapter at {str(adapter.path)!r} is being written to; load it when it is whole")
            if not target.is_dir():
                staging.replace(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    elif not adapter.path.samefile(target) and hashed(target) != hashed(adapter.path):
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
        elif hashed(staging) != hashed(target):
            raise InputError(f"{target.name!r} is there already with other numbers; give these a new version")
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return _at_home(target.resolve())


def _at(path: Path) -> Adapter:
    """The adapter at a path, called what its card says, else what its folder is called."""
    card = card_at(path)
    name, _, version = path.resolve().name.partition("@")
    if card is not None:
        return read(path, card.name, card.version)
    return read(path, name.replace("+", "-") or "adapter", version or None)


def _at_home(path: Path) -> Adapter:
    """The adapter in a folder `name@version` of the user's."""
    name, _, version = path.name.partition("@")
    return read(path, name, version)


def _age(adapter: Adapter) -> float:
    """Smaller is newer."""
    return -(adapter.path / CONFIG).stat().st_mtime


def _is_here(name: str) -> bool:
    try:
        weights.path_of(name)
    except InputError:
        return False
    return True
