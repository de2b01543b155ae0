"""What publishers take: the numbers of an adapter, straight from whoever trains it."""

from collections.abc import Mapping
from typing import Any, Protocol


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
