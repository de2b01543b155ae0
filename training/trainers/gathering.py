"""Sources of episodes, opened by name, alone or mixed."""

import inspect
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, cast

from orchestra.errors import InputError
from orchestra.plugins import closest, load
from orchestra.traces.episode import Episode
from training.recipes import Source
from training.seams import SOURCES, EpisodeSource


class Mixed:
    """Several sources at once, each giving its share of every step's episodes."""

    def __init__(self, sources: Sequence[tuple[EpisodeSource, float]]) -> None:
        self._sources = tuple(sources)

    async def episodes(self, adapters: Mapping[str, str], count: int, seed: int) -> Sequence[Episode]:
        """The episodes of all, in the order of the sources."""
        found: list[Episode] = []
        shares = dealt(count, [share for _, share in self._sources])
        # A seed each: two sources of one game would deal the same cards.
        for number, ((source, _), wanted) in enumerate(zip(self._sources, shares, strict=True)):
            if wanted:
                found += await source.episodes(adapters, wanted, seed + number)
        return found

    async def close(self) -> None:
        """Close all, whichever fails to."""
        async with AsyncExitStack() as stack:
            for source, _ in self._sources:
                stack.push_async_callback(source.close)


def opened(sources: Sequence[Source], given: Mapping[str, Any]) -> EpisodeSource:
    """The sources of a recipe.

    Args:
        given: what the job adds to each source's settings, as far as it takes it.

    Raises:
        InputError: a source is not installed, or its settings are wrong.
    """
    made = [(_one(source, given), source.share) for source in sources]
    return made[0][0] if len(made) == 1 else Mixed(made)


def dealt(count: int, shares: Sequence[float]) -> list[int]:
    """`count` dealt out by `shares`; what rounding leaves goes to the largest rests.

    >>> dealt(10, [1.0, 1.0, 1.0])
    [4, 3, 3]
    """
    total = sum(shares)
    exact = [count * share / total for share in shares]
    whole = [int(amount) for amount in exact]
    for at in sorted(range(len(shares)), key=lambda at: whole[at] - exact[at])[: count - sum(whole)]:
        whole[at] += 1
    return whole


def _one(source: Source, given: Mapping[str, Any]) -> EpisodeSource:
    make = load(SOURCES, source.name)
    if not callable(make):
        raise InputError(f"source {source.name!r} is a {type(make).__name__}; expected a function that opens it")
    return cast(EpisodeSource, called(make, f"source {source.name!r}", source.settings, _taken(make, given)))


def called(make: Any, what: str, settings: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> Any:
    """What `make` returns for `settings`, and `given` where they do not say.

    Args:
        what: it is called in messages.

    Raises:
        InputError: it has no such setting, with the closest it has; or lacks one.
    """
    parameters = inspect.signature(make).parameters
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    for name in settings:
        if name not in parameters and not takes_any:
            raise InputError(f"{what} has no setting {name!r}; {closest(name, parameters)}")
    try:
        return make(**{**(given or {}), **settings})
    except TypeError as cause:
        raise InputError(f"{what} does not take these settings: {cause}") from cause


def _taken(make: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """What of `given` a source has a parameter for."""
    parameters = inspect.signature(make).parameters
    return {name: value for name, value in given.items() if name in parameters and value is not None}
