"""The publish gate: what a server computes with an adapter is what its trainer computed, or it is taken off again."""

import math
from collections.abc import Sequence

from orchestra.errors import OrchestraError
from training.adapters.network import LiveWeights
from training.seams import Publisher

TOLERANCE_NATS = 0.1
"""Mean difference of log-probabilities that number formats explain: bfloat16 on one side stays well below."""
NOTICEABLE_NATS = 0.02
"""An adapter that makes this mean difference over the base must be nearer to its trainer than to the base."""


class NotPublished(OrchestraError, ValueError):
    """The server does not compute what the trainer computed.

    Attributes:
        served: what it was called on the server.
        expected: log-probabilities of the trainer.
        found: those of the server.
    """

    def __init__(self, message: str, served: str, expected: tuple[float, ...], found: tuple[float, ...]) -> None:
        super().__init__(message)
        self.served, self.expected, self.found = served, expected, found

    def __reduce__(self) -> tuple[type["NotPublished"], tuple[str, str, tuple[float, ...], tuple[float, ...]]]:
        return type(self), (str(self), self.served, self.expected, self.found)


async def publish(
    publisher: Publisher,
    weights: LiveWeights,
    *,
    base: Sequence[float] | None = None,
    tolerance_nats: float = TOLERANCE_NATS,
) -> float:
    """Publish `weights`; mean difference in nats between the server's log-probabilities of the probe and the trainer's.

    Args:
        base: the trainer's log-probabilities without the adapter; with them, an adapter that makes a difference must
            make it on the server too.
        tolerance_nats: largest mean difference.

    Raises:
        NotPublished: they differ by more, and it was withdrawn.
    """
    found = tuple(await publisher.publish(weights))
    gap = _mean_difference(found, weights.logprobs)
    effect = 0.0 if base is None else _mean_difference(weights.logprobs, base)
    if gap <= tolerance_nats and (effect <= NOTICEABLE_NATS or gap <= effect / 2):
        return gap
    await publisher.withdraw(weights.served)
    raise NotPublished(
        f"adapter {weights.served!r} is not published: the server's log-probabilities of the probe differ from the "
        f"trainer's by {gap:.3f} nats in the mean; allowed are {tolerance_nats:g}, and half of the {effect:.3f} that "
        "the adapter makes over the base; check that the server has the same base weights, rank and alpha",
        weights.served,
        weights.logprobs,
        found,
    )


def _mean_difference(left: Sequence[float], right: Sequence[float]) -> float:
    if len(left) != len(right) or not left:
        return math.inf
    return sum(abs(a - b) for a, b in zip(left, right, strict=True)) / len(left)
