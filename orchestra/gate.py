"""The publish gate: what goes through it, and that what a server computes with it is what its trainer computed.

An export without rank or alpha, another base, an adapter that was never trained: each shows in the log-probabilities of
a probe, a text that both compute. Trainers and servers ask here, so that one rule decides; neither knows the other.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from orchestra.errors import OrchestraError

TOLERANCE_NATS = 0.1
"""Mean difference of log-probabilities that number formats explain: bfloat16 on both sides stays well below."""
NOTICEABLE_NATS = 0.02
"""An adapter that makes this mean difference over the base must make it on the server too."""
ROUNDING_NATS = 0.05
"""A mean difference up to this may be rounding alone; whether the adapter is there is then told from its direction."""


class Weights(Protocol):
    """One adapter in memory, as its trainer publishes it.

    Two attributes may be missing: `folder`, where it lies as peft saves it, if that is not `None`; and `rslora`, which
    is true where alpha is divided by the square root of the rank.
    """

    @property
    def name(self) -> str:
        """Of the adapter, which is its agent's; without `@` and `+`."""
        ...

    @property
    def version(self) -> str:
        """Of these numbers, and of no others."""
        ...

    @property
    def base(self) -> str:
        """What the base model is opened by; `local/` may stand in front."""
        ...

    @property
    def rank(self) -> int:
        """Of its matrices."""
        ...

    @property
    def alpha(self) -> float:
        """As peft has it: `B A x` is multiplied by alpha / rank."""
        ...

    @property
    def tensors(self) -> Mapping[str, Any]:
        """torch's, by peft's names: `base_model.model.<module>.lora_A.weight` and `lora_B.weight`."""
        ...

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The probe: ids of a text whose log-probabilities are compared."""
        ...


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


def mean_difference(left: Sequence[float], right: Sequence[float]) -> float:
    """Mean absolute difference, in nats.

    >>> mean_difference([-1.0, -2.0], [-1.0, -4.0])
    1.0
    """
    return sum(abs(a - b) for a, b in zip(left, right, strict=True)) / len(left)


def fault(
    expected: Sequence[float], found: Sequence[float], base: Sequence[float] | None, tolerance_nats: float
) -> str | None:
    """What is wrong with the log-probabilities of a probe, in words; `None` when nothing is.

    They may be no further apart than `tolerance_nats`, and the server must be nearer to the trainer than to the base.
    Where the adapter makes less difference than number formats do, as after a first step, nearness says nothing: what
    the server changes must then point where the trainer's change does, and be no fraction of it.

    Args:
        expected: by the trainer, with the adapter.
        found: by the server, with the adapter.
        base: without, by either; `None` where nobody computed it.
        tolerance_nats: largest mean difference.
    """
    if len(expected) != len(found):
        return f"the server scored {len(found)} tokens of the probe, the trainer {len(expected)}"
    gap = mean_difference(expected, found)
    if base is None:
        if gap <= tolerance_nats:
            return None
        return f"{_apart(gap)}; allowed are {tolerance_nats:g}; {_REMEDY}"
    effect, done = mean_difference(expected, base), mean_difference(found, base)
    if gap <= tolerance_nats:
        near = effect <= NOTICEABLE_NATS or gap <= effect / 2
        if near or (gap <= ROUNDING_NATS and done >= effect / 4 and _same_direction(expected, found, base)):
            return None
    missing = " and are those of the base, as if the adapter were not there" if done < effect / 4 else ""
    return (
        f"{_apart(gap)}{missing}; allowed are {tolerance_nats:g}, and half of the {effect:.3f} the adapter makes over "
        f"this base; {_REMEDY}"
    )


_REMEDY = "check rank, alpha and base of the export"


def _apart(gap: float) -> str:
    return f"the server's log-probabilities of the probe differ from the trainer's by {gap:.3f} nats in the mean"


def _same_direction(expected: Sequence[float], found: Sequence[float], base: Sequence[float]) -> bool:
    """Whether the two changes agree by half; rounding of the base is in one of them, and averages out of the product.

    Their product is compared with the smaller square, that of the change the base's own rounding is not in.
    """
    wanted = [e - b for e, b in zip(expected, base, strict=True)]
    got = [f - b for f, b in zip(found, base, strict=True)]
    product = sum(w * g for w, g in zip(wanted, got, strict=True))
    return product >= min(sum(w * w for w in wanted), sum(g * g for g in got)) / 2


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
    wrong = fault(expected, found, base, tolerance_nats)
    if wrong is not None:
        raise NotPublished(f"adapter {served!r} is not published: {wrong}", served, tuple(expected), tuple(found))
