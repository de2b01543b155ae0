"""The gate an adapter passes before agents use it: what the server computes with it is what its trainer computed.

An adapter is loaded and asked for the log-probabilities of a probe, twice: of the whole text, computed afresh, and of
its last tokens as replies are computed, through the server's cache of prefixes. Both must be the trainer's. An export
without rank or alpha, another base, a name whose cached prefixes are of other weights, an adapter that was never
trained: each shows here, and the adapter is taken off the server again.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from orchestra.gate import TOLERANCE_NATS, NotPublished, fault, mean_difference
from orchestra.models.serving.adapters import Adapter, Adapters
from orchestra.models.serving.probes import FILE, Probe

__all__ = ["NotPublished", "Published", "publish"]

CACHED_IDS = 6
"""Last ids of a probe that are asked for behind a cached prefix."""
STALE = (
    "behind a cached prefix the server computes the probe's last tokens {:.3f} nats away from what it computes afresh: "
    "its cache holds prefixes of other weights under this name; start it anew"
)
"""What is wrong when they differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """An adapter that passed."""

    adapter: Adapter
    logprobs: tuple[float, ...]
    """Of the probe, by the server."""
    gap_nats: float
    """Mean difference from the trainer's."""
    effect_nats: float
    """Mean difference the adapter makes, by its trainer: from the server's base."""


async def publish(
    path: Path, probe: Probe, server: Adapters, *, name: str, tolerance_nats: float = TOLERANCE_NATS
) -> Published:
    """Load the adapter at `path` as `name` and its version, if the server computes with it what its trainer did.

    Args:
        path: a folder as peft saves it.
        probe: written by the trainer with the adapter on.
        server: takes it.
        name: without a version.
        tolerance_nats: largest mean difference of log-probabilities.

    Raises:
        NotPublished: the log-probabilities differ; it is unloaded.
        orchestra.errors.InputError: it is no sound adapter for this base; it was never loaded.
        orchestra.models.serving.adapters.AdapterRefused: the server does not take it.
    """
    before = await server.loaded()
    adapter = await server.load(path, name=name)
    try:
        found = await fresh_logprobs(server, adapter.served, probe)
        base = await fresh_logprobs(server, server.base, probe)
        cached = await cached_logprobs(server, adapter.served, probe)
        stale = mean_difference(cached, found[-len(cached) :])
        wrong = fault(probe.logprobs, found, base, tolerance_nats)
        if wrong is None and stale > tolerance_nats:
            wrong = STALE.format(stale)
        if wrong is not None:
            raise NotPublished(
                f"adapter {adapter.served!r} is not published: {wrong} (base {server.base!r}; trained over "
                f"{probe.base_model or adapter.base or 'a base it does not name'!r}, rank {adapter.rank}, "
                f"alpha {adapter.alpha:g})",
                adapter.served,
                probe.logprobs,
                found,
            )
    except BaseException as error:
        # What was there before and could only not be asked stays; what computes something else never does.
        if isinstance(error, NotPublished) or adapter.served not in before:
            await server.unload(adapter.served)
        raise
    gap, effect = mean_difference(probe.logprobs, found), mean_difference(probe.logprobs, base)
    return Published(adapter=adapter, logprobs=found, gap_nats=gap, effect_nats=effect)


async def admitted(path: Path, server: Adapters, *, name: str) -> Adapter:
    """The adapter at `path`, loaded; where its trainer left a probe beside it (`probe.json`), through the gate.

    Raises:
        NotPublished: as `publish`.
        orchestra.errors.InputError: as `publish`, or the probe cannot be read.
        orchestra.models.serving.adapters.AdapterRefused: as `publish`.
    """
    if not (path / FILE).is_file():
        return await server.load(path, name=name)
    return (await publish(path, Probe.read(path / FILE), server, name=name)).adapter


async def fresh_logprobs(server: Adapters, served: str, probe: Probe) -> tuple[float, ...]:
    """Log-probabilities of the scored ids of `probe`, computed without the cache of prefixes."""
    answer = await server.complete(
        {
            "model": served,
            "prompt": list(probe.token_ids),
            "max_tokens": 1,
            "temperature": 0.0,
            "prompt_logprobs": 0,
        }
    )
    places = answer["choices"][0]["prompt_logprobs"]
    return tuple(
        min(0.0, float(places[at][str(probe.token_ids[at])]["logprob"]))
        for at in range(probe.scored_from, len(probe.token_ids))
    )


async def cached_logprobs(server: Adapters, served: str, probe: Probe) -> tuple[float, ...]:
    """Log-probabilities of the last ids of `probe`, each as the next token of a reply, prefixes from the cache."""

    async def one(end: int) -> float:
        answer = await server.complete(
            {
                "model": served,
                "prompt": list(probe.token_ids[:end]),
                "max_tokens": 1,
                "temperature": 1.0,
                "logprobs": 1,
                "logprob_token_ids": [probe.token_ids[end]],
                "return_tokens_as_token_ids": True,
            }
        )
        return float(answer["choices"][0]["logprobs"]["top_logprobs"][0][f"token_id:{probe.token_ids[end]}"])

    length = len(probe.token_ids)
    ends = range(max(probe.scored_from, length - CACHED_IDS), length)
    return tuple(await asyncio.gather(*(one(end) for end in ends)))
