"""Publishing a live adapter: through the gate, or not at all."""

from collections.abc import Sequence

from orchestra.gate import TOLERANCE_NATS, NotPublished, fault, mean_difference
from training.adapters.network import LiveWeights
from training.seams import Publisher

__all__ = ["NotPublished", "publish"]


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
    wrong = fault(weights.logprobs, found, base, tolerance_nats)
    if wrong is None:
        return mean_difference(found, weights.logprobs)
    await publisher.withdraw(weights.served)
    raise NotPublished(f"adapter {weights.served!r} is not published: {wrong}", weights.served, weights.logprobs, found)
