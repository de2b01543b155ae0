"""LoRA adapters of a running server: loaded by name *and version*, asked for by both, unloaded.

The version is its card's, else a hash of the adapter's files. Loading copies them into a folder of that name in the
user's cache and the server reads them there, since a server may read an adapter again long after it was loaded, and
reuses what it computed for a name and path whatever weights lie behind them by then. So one name on a server always
means one set of weights, and nothing a trainer writes later changes what an episode was sampled from.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestra.errors import InputError, ModelError, OrchestraError
from orchestra.models.adapters import snapshot
from orchestra.models.peft_files import Adapter, defects, inspected
from orchestra.models.serving.record import found
from orchestra.models.vllm_errors import refusal, said

__all__ = ["Adapter", "AdapterRefused", "Adapters", "defects", "inspected", "snapshot"]


class AdapterRefused(OrchestraError):
    """The server did not take an adapter."""


class Adapters:
    """The adapters of one server.

    Args:
        url: of the server, without `/v1`.
        base: name of the base weights on it.
        root: folder of the base weights, where it is on this machine; shapes are compared with it.

    What `orchestra serve` left word of on this machine says which weights the server has: an adapter whose card names
    others is refused, also where every shape fits.
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

        The version is the card's where it has one, so that a trained adapter is called the same here, in the embedded
        engine, and in the teams that a composer writes.

        Raises:
            InputError: it is no sound adapter for this base; every defect is listed.
            AdapterRefused: the server does not take it.
        """
        there = inspected(path, name=name)
        return await self.load_copy(
            snapshot(there if there.card is None else replace(there, version=there.card.version))
        )

    async def load_copy(self, adapter: Adapter, *, trained: bool = True) -> Adapter:
        """The same of an adapter whose folder nobody writes to again.

        Args:
            adapter: as it is found there.
            trained: whether it must have been.

        Raises:
            InputError: it is no sound adapter for this base; every defect is listed.
            AdapterRefused: the server does not take it.
        """
        broken = [*self._other_base(adapter), *defects(adapter, self.root, trained=trained)]
        if broken:
            raise InputError(f"adapter {adapter.name!r} at {str(adapter.path)!r} cannot be served: {'; '.join(broken)}")
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

    def _other_base(self, adapter: Adapter) -> Iterator[str]:
        """That its card names other weights than the server has, where both are known."""
        record, card = found(self._connection.url), adapter.card
        if record is None or record.model != self.base or card is None or not card.base_sha256:
            return
        if card.base_sha256 not in record.hashes:
            yield (
                f"it was trained over {card.base!r} with the weights {card.base_sha256[:12]}…, and the server's "
                f"{self.base!r} has {' or '.join(f'{digest[:12]}…' for digest in record.hashes)}; load it onto its own "
                "base"
            )

    async def _asked(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        content = b"" if body is None else _json(body)
        status, headers, answer = await self._connection.ask(method, path, content)
        if status != 200:
            raise refusal(f"the server at {self._connection.url}", status, headers, answer)
        return answer


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()
