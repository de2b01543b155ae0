"""New weights into the embedded engine, straight from memory: the publisher called `local`."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orchestra.gate import TOLERANCE_NATS, Weights, check
from orchestra.models.adapters import served_name
from orchestra.models.local import shelf
from orchestra.models.local.model import Opened
from orchestra.models.local.opening import Settings, shared_engine
from orchestra.models.peft_files import scale_of


class LocalPublisher:
    """Publishes to every embedded engine of this process; made by `local_publisher`.

    Args:
        settings: of the engine it computes probes with; models opened with the same share it.
        tolerance_nats: largest mean difference from log-probabilities that are expected.
    """

    def __init__(self, settings: Settings, *, tolerance_nats: float = TOLERANCE_NATS) -> None:
        self._settings, self._tolerance = settings, tolerance_nats
        self._engines: dict[str, tuple[Path, Opened, Callable[[], None]]] = {}
        self._published: dict[str, str] = {}

    async def publish(self, weights: Weights, *, expected: Sequence[float] | None = None) -> tuple[float, ...]:
        """Make `weights` known as `name@version`, from this call's end on; log-probabilities of its probe.

        They are natural, of `token_ids[1:]`, under base and adapter, as the engine computes them.

        Args:
            weights: copied; what a trainer does to them afterwards changes nothing here.
            expected: the trainer's log-probabilities of the same ids; `None` leaves comparing to the caller.

        Raises:
            orchestra.gate.NotPublished: they differ from `expected`; it was taken away again.
            InputError: they do not fit the base, or other numbers have that version.
        """
        return await asyncio.to_thread(self._publish, weights, expected)

    async def withdraw(self, served: str) -> None:
        """Forget `name@version` and free its memory; rows begun with it end with it. Unknown names are ignored."""
        await asyncio.to_thread(self._withdraw, served)

    async def close(self) -> None:
        """Withdraw what it published and give its engines back."""
        for served in list(self._published):
            await self.withdraw(served)
        engines, self._engines = self._engines, {}
        for _, _, release in engines.values():
            await asyncio.to_thread(release)

    def _publish(self, weights: Weights, expected: Sequence[float] | None) -> tuple[float, ...]:
        base = weights.base.removeprefix("local/")
        if base not in self._engines:
            self._engines[base] = shared_engine(base, self._settings)
        root, opened, _ = self._engines[base]
        served = served_name(weights.name, weights.version)
        rslora = bool(getattr(weights, "rslora", False))
        shelf.publish(root, served, weights.tensors, scale_of(weights.rank, weights.alpha, rslora=rslora))
        self._published[served] = base
        try:
            found = opened.shelf.logprobs(served, weights.token_ids)
            if expected is not None:
                plain = opened.shelf.logprobs(None, weights.token_ids)
                check(served, expected=expected, found=found, base=plain, tolerance_nats=self._tolerance)
        except BaseException:
            self._withdraw(served)
            raise
        return found

    def _withdraw(self, served: str) -> None:
        base = self._published.pop(served, None)
        if base is not None:
            shelf.withdraw(self._engines[base][0], served)


def local_publisher(*, tolerance_nats: float = TOLERANCE_NATS, **settings: Any) -> LocalPublisher:
    """Publishes adapters from memory to the embedded engines of this process.

    Args:
        tolerance_nats: largest mean difference from log-probabilities that are expected.
        settings: of `orchestra.models.local.open_local`, such as `dtype` and `threads`; give those the models are
            opened with, and one engine serves both.

    Raises:
        InputError: a setting is wrong.
    """
    return LocalPublisher(Settings(**settings), tolerance_nats=tolerance_nats)
