"""New weights onto a running vLLM server: the publisher called `vllm`.

They are written once, as peft would save them, into the user's folder of adapters; the server reads them there under
name and version, and older versions of the same name are taken off it.
"""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from orchestra.errors import InputError
from orchestra.gate import TOLERANCE_NATS, NotPublished, Weights, check, mean_difference
from orchestra.models import adapters
from orchestra.models.peft_files import Adapter
from orchestra.models.serving.adapters import Adapters
from orchestra.models.serving.probes import Probe
from orchestra.models.serving.publishing import STALE, cached_logprobs, fresh_logprobs
from orchestra.models.serving.record import found as recorded


class VllmPublisher:
    """Publishes to one vLLM server; made by `vllm_publisher`.

    Args:
        server: its adapters.
        keep: older versions of a name that stay loaded beside the newest.
        tolerance_nats: largest mean difference of log-probabilities.
    """

    def __init__(self, server: Adapters, *, keep: int = 0, tolerance_nats: float = TOLERANCE_NATS) -> None:
        self._server, self._keep, self._tolerance = server, keep, tolerance_nats
        self._published: list[str] = []
        self._written: dict[str, Path] = {}
        """Folders that were written for the server alone, and go with the adapter."""

    async def publish(self, weights: Weights, *, expected: Sequence[float] | None = None) -> tuple[float, ...]:
        """Load `weights` as `name@version` and unload older ones; log-probabilities of its probe, by the server.

        They are natural, of `token_ids[1:]`, under base and adapter, computed without the server's cache of prefixes;
        those of the last ids are computed through it as well, and must be the same.

        Args:
            weights: written to the user's folder of adapters, unless that version is there; an attribute `folder`
                that is not `None` says where they lie already.
            expected: the trainer's log-probabilities of the same ids; `None` leaves comparing to the caller.

        Raises:
            orchestra.gate.NotPublished: they differ from `expected`, or from those behind a cached prefix; it
                was unloaded again, and the older version stays.
            InputError: it is no sound adapter for this base.
            orchestra.models.serving.adapters.AdapterRefused: the server does not take it.
        """
        served = adapters.served_name(weights.name, weights.version)
        is_new = not (adapters.folder() / served).is_dir()
        copy = await asyncio.to_thread(_written, weights)
        if is_new and getattr(weights, "folder", None) is None:
            self._written[served] = copy.path
        try:
            adapter = await self._server.load_copy(copy, trained=False)
            found = await self._probed(served, tuple(weights.token_ids), expected)
        except BaseException:
            await self.withdraw(served)
            raise
        await self._retire(adapter)
        return found

    async def withdraw(self, served: str) -> None:
        """Take `name@version` off the server, and what was written for it off the disk; unknown names are ignored."""
        if served in await self._server.loaded():
            await self._server.unload(served)
        if served in self._written:
            await asyncio.to_thread(shutil.rmtree, self._written.pop(served), ignore_errors=True)
        self._published = [other for other in self._published if other != served]

    async def close(self) -> None:
        """Close its connections. What it published stays on the server."""
        await self._server.close()

    async def _probed(
        self, served: str, token_ids: tuple[int, ...], expected: Sequence[float] | None
    ) -> tuple[float, ...]:
        asked = Probe(token_ids=token_ids, logprobs=tuple(expected or (0.0,) * (len(token_ids) - 1)))
        found = await fresh_logprobs(self._server, served, asked)
        cached = await cached_logprobs(self._server, served, asked)
        stale = mean_difference(cached, found[-len(cached) :])
        if stale > self._tolerance:
            raise NotPublished(
                f"adapter {served!r} is not published: {STALE.format(stale)}", served, tuple(expected or ()), found
            )
        if expected is not None:
            base = await fresh_logprobs(self._server, self._server.base, asked)
            check(served, expected=expected, found=found, base=base, tolerance_nats=self._tolerance)
        return found

    async def _retire(self, adapter: Adapter) -> None:
        self._published = [served for served in self._published if served != adapter.served] + [adapter.served]
        mine = [served for served in self._published if served.startswith(f"{adapter.name}@")]
        for served in mine[: max(0, len(mine) - 1 - self._keep)]:
            await self.withdraw(served)


def _written(weights: Weights) -> Adapter:
    place = getattr(weights, "folder", None)
    if place is not None:
        adapter = adapters.snapshot(adapters.found(str(place)))
        if adapter.served != adapters.served_name(weights.name, weights.version):
            raise InputError(f"{str(place)!r} holds {adapter.served!r}, not {weights.name}@{weights.version}")
        return adapter
    return adapters.write(
        weights.name,
        weights.version,
        {name: tensor.detach().cpu().float().numpy() for name, tensor in weights.tensors.items()},
        rank=weights.rank,
        alpha=weights.alpha,
        base=weights.base.removeprefix("local/"),
        rslora=bool(getattr(weights, "rslora", False)),
    )


def vllm_publisher(
    *,
    url: str,
    base: str | None = None,
    root: str | Path | None = None,
    keep: int = 0,
    tolerance_nats: float = TOLERANCE_NATS,
    api_key: str | None = None,
) -> VllmPublisher:
    """Publishes adapters to the vLLM server at `url`.

    Args:
        url: of the server, with `/v1` or without.
        base: name of the base weights on it; `None` takes what `orchestra serve` left word of.
        root: folder of the base weights, where it is on this machine; shapes are compared with it.
        keep: older versions of a name that stay loaded beside the newest.
        tolerance_nats: largest mean difference of log-probabilities.
        api_key: of the server.

    Raises:
        InputError: no base is given and the server was not started by `orchestra serve` here.
    """
    place = url.rstrip("/").removesuffix("/v1")
    record = recorded(place)
    name = base or (record.model if record is not None else None)
    if name is None:
        raise InputError(f"what the base at {place!r} is called is not known; give its name as base=...")
    where = Path(root) if root is not None else Path(record.root) if record is not None else None
    return VllmPublisher(
        Adapters(place, base=name, root=where, api_key=api_key), keep=keep, tolerance_nats=tolerance_nats
    )
