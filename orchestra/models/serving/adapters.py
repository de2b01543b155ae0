"""LoRA adapters of a running server: loaded by name *and version*, asked for by both, unloaded.

The version is a hash of the adapter's files. Loading copies them into a folder of that name in the user's cache and the
server reads them there, since a server may read an adapter again long after it was loaded, and reuses what it
computed for a name and path whatever weights lie behind them by then. So one name on a server always means one set of
weights, and nothing a trainer writes later changes what an episode was sampled from.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra.errors import InputError, ModelError, OrchestraError
from orchestra.models import weights
from orchestra.models.serving import safetensors
from orchestra.models.vllm_errors import refusal, said

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
VERSION_DIGITS = 12
"""Hexadecimal digits of a version."""


class AdapterRefused(OrchestraError):
    """The server did not take an adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A LoRA adapter on disk, as it was when it was looked at."""

    name: str
    version: str
    """Hash of its files."""
    path: Path
    rank: int
    alpha: float
    base: str
    """What it says it was trained over; empty when it does not."""

    @property
    def served(self) -> str:
        """What a server calls it."""
        return f"{self.name}@{self.version}"


class Adapters:
    """The adapters of one server.

    Args:
        url: of the server, without `/v1`.
        base: name of the base weights on it.
        root: folder of the base weights, where it is on this machine; shapes are compared with it.
    """

    def __init__(self, url: str, *, base: str, root: Path | None = None, api_key: str | None = None) -> None:
        from orchestra.models.vllm_http import Connection

        self.base, self.root = base, root
        self._connection = Connection(url, api_key=api_key)

    async def is_up(self) -> bool:
        """Whether the server answers."""
        try:
            status, _, _ = await self._connection.ask("GET", "/health")
        except ModelError:
            return False
        return status == 200

    async def loaded(self) -> Mapping[str, str]:
        """Adapters on the server: name with version -> the folder each was read from."""
        cards = json.loads(await self._asked("GET", "/v1/models"))["data"]
        return {card["id"]: str(card.get("root") or "") for card in cards if card.get("parent")}

    async def load(self, path: Path, *, name: str) -> Adapter:
        """The adapter at `path`, loaded under `name` and its version; one that is there already stays.

        Raises:
            InputError: it is no sound adapter for this base; every defect is listed.
            AdapterRefused: the server does not take it.
        """
        adapter = snapshot(inspected(path, name=name))
        broken = defects(adapter, self.root)
        if broken:
            raise InputError(f"adapter {name!r} at {str(path)!r} cannot be served: {'; '.join(broken)}")
        if (await self.loaded()).get(adapter.served) == str(adapter.path):
            return adapter
        status, _, body = await self._connection.ask(
            "POST", "/v1/load_lora_adapter", _json({"lora_name": adapter.served, "lora_path": str(adapter.path)})
        )
        if status != 200:
            raise AdapterRefused(
                f"the server does not take adapter {adapter.served!r}: {said(body)}; is its rank ({adapter.rank}) "
                f"within the server's --max-lora-rank, and {self.base!r} its base?"
            )
        return adapter

    async def unload(self, served: str) -> None:
        """Take the adapter the server calls `served` away.

        Raises:
            ModelError: there is none.
        """
        await self._asked("POST", "/v1/unload_lora_adapter", {"lora_name": served})

    async def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer of `/v1/completions`.

        Raises:
            ModelError: the server refuses.
        """
        answer: dict[str, Any] = json.loads(await self._asked("POST", "/v1/completions", body))
        return answer

    async def close(self) -> None:
        """Close its connections."""
        await self._connection.close()

    async def _asked(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        content = b"" if body is None else _json(body)
        status, headers, answer = await self._connection.ask(method, path, content)
        if status != 200:
            raise refusal(f"the server at {self._connection.url}", status, headers, answer)
        return answer


def inspected(path: Path, *, name: str) -> Adapter:
    """What the files at `path` say of the adapter there.

    Raises:
        InputError: it is not a folder as peft saves it.
    """
    config = weights.remembered(path / CONFIG)
    if config is None or not (path / TENSORS).is_file():
        raise InputError(f"no LoRA adapter at {str(path)!r}: expected {CONFIG} and {TENSORS}, as peft saves them")
    if not name or "@" in name or "+" in name:
        raise InputError(f"an adapter's name has no '@' and no '+', got {name!r}; the version is added to it")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    return Adapter(
        name=name,
        version=_version(path),
        path=path,
        rank=rank if isinstance(rank, int) else 0,
        alpha=float(alpha) if isinstance(alpha, int | float) else 0.0,
        base=str(config.get("base_model_name_or_path") or ""),
    )


def defects(adapter: Adapter, root: Path | None) -> tuple[str, ...]:
    """Everything that makes an adapter useless or wrong, before a server sees it.

    Args:
        adapter: as `inspected`.
        root: folder of the base weights; `None` leaves shapes to the server.
    """
    found = []
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
    elif all(tensor.is_zero for tensor in outputs):
        found.append("every B matrix is zero, as before the first step of training: it changes nothing")
    if not all(tensor.is_finite for tensor in tensors):
        found.append("it holds numbers that are infinite or not numbers")
    if root is not None:
        found.extend(_misfits(adapter, {tensor.name: tensor.shape for tensor in tensors}, safetensors.shapes(root)))
    return tuple(found)


def snapshot(adapter: Adapter) -> Adapter:
    """The same adapter in a folder of its own that nobody writes to again.

    Raises:
        InputError: its files changed while they were copied.
    """
    target = weights.cache_dir() / "adapters" / adapter.served
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=".part-"))
        try:
            for file in (CONFIG, TENSORS):
                shutil.copyfile(adapter.path / file, staging / file)
            if _version(staging) != adapter.version:
                raise InputError(f"the adapter at {str(adapter.path)!r} is being written to; load it when it is whole")
            if not target.is_dir():
                staging.replace(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return Adapter(
        name=adapter.name,
        version=adapter.version,
        path=target.resolve(),
        rank=adapter.rank,
        alpha=adapter.alpha,
        base=adapter.base,
    )


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


def _version(path: Path) -> str:
    digest = hashlib.sha256()
    for file in (CONFIG, TENSORS):
        digest.update(weights.file_hash(path / file).encode())
    return digest.hexdigest()[:VERSION_DIGITS]


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()
