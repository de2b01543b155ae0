"""What publishers share: the weights they take, and the gate these pass before agents use them.

The gate: what a server computes with an adapter is what its trainer computed. An export without rank or alpha, another
base, an adapter that was never trained: each shows in the log-probabilities of a probe.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from orchestra.errors import OrchestraError

TOLERANCE_NATS = 0.1
"""Mean difference of log-probabilities that number formats explain: bfloat16 on one side stays well below."""
NOTICEABLE_NATS = 0.02
"""An adapter that makes this mean difference over the base must be nearer to its trainer than to the base."""


class NotPublished(OrchestraError, ValueError):
    """The server does not compute what the trainer computed; the adapter was taken off again.

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


class Weights(Protocol):
    """What a publisher takes: an adapter in memory."""

    @property
    def name(self) -> str:
        """Of the adapter, without `@` and `+`."""
        ...

    @property
    def version(self) -> str:
        """Of these numbers, and of no others."""
        ...

    @property
    def base(self) -> str:
        """What the base is opened by; `local/` may stand in front."""
        ...

    @property
    def rank(self) -> int:
        """Of its matrices."""
        ...

    @property
    def alpha(self) -> float:
        """As peft has it. An attribute `rslora` that is true divides it by the square root of the rank."""
        ...

    @property
    def tensors(self) -> Mapping[str, Any]:
        """torch's, by peft's names: `base_model.model.<module>.lora_A.weight`."""
        ...

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The probe: a text whose log-probabilities are compared."""
        ...


def mean_difference(left: Sequence[float], right: Sequence[float]) -> float:
    """Mean absolute difference, in nats.

    >>> mean_difference([-1.0, -2.0], [-1.0, -4.0])
    1.0
    """
    return sum(abs(a - b) for a, b in zip(left, right, strict=True)) / len(left)


def fault(gap: float, effect: float, done: float, tolerance: float) -> str | None:
    """What is wrong with the log-probabilities of a probe, in words; `None` when nothing is.

    Args:
        gap: between server and trainer, with the adapter.
        effect: of the adapter, by its trainer, over the server's base.
        done: of the adapter, by the server.
        tolerance: allowed gap.
    """
    if gap <= tolerance and (effect <= NOTICEABLE_NATS or gap <= effect / 2):
        return None
    return (
        f"the server's log-probabilities of the probe differ from the trainer's by {gap:.3f} nats in the mean"
        + (" and are those of the base, as if the adapter were not there" if done < effect / 4 else "")
        + f"; allowed are {tolerance:g}, and half of the {effect:.3f} the adapter makes over this base; "
        "check rank, alpha and base of the export"
    )


def check(
    served: str, *, expected: Sequence[float], found: Sequence[float], base: Sequence[float], tolerance_nats: float
) -> None:
    """Refuse an adapter whose probe comes out otherwise than its trainer says.

    Args:
        served: name and version, for the message.
        expected: by the trainer.
        found: by the server, with the adapter.
        base: by the server, without.
        tolerance_nats: largest mean difference.

    Raises:
        NotPublished: it does.
    """
    wrong = fault(
        mean_difference(expected, found),
        mean_difference(expected, base),
        mean_difference(found, base),
        tolerance_nats,
    )
    if wrong is not None:
        raise NotPublished(f"adapter {served!r} is not published: {wrong}", served, tuple(expected), tuple(found))
