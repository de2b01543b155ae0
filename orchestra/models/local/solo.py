"""Row by row: the way for models whose attention does not take rows laid end to end.

State-space layers, attention sinks and whatever else comes: each row keeps the cache its own model makes, and a step
runs the rows one after the other. Correct for every causal language model of transformers, and slower.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from orchestra.models.local.lora import Lora, applied
from orchestra.models.local.packed import Part, takes_logits_to_keep


class SoloPlace:
    """One row's cache; `None` until its first pass."""

    def __init__(self, lora: Lora | None = None) -> None:
        self.cache: Any = None
        self.lora = lora


class SoloDecoder:
    """Rows of one model, decoded one by one.

    Args:
        network: a causal language model of transformers.
        device: where it lies.
    """

    def __init__(self, network: Any, device: torch.device) -> None:
        self._network = network
        self._device = device
        self._keeps_last = takes_logits_to_keep(network)
        # Models without attention name their state otherwise.
        named = inspect.signature(network.forward).parameters
        self._state = "past_key_values" if "past_key_values" in named else "cache_params"

    def enter(self, capacity: int, lora: Lora | None = None) -> SoloPlace:
        """Room for a row, changed by `lora`; it grows as it must."""
        return SoloPlace(lora)

    def leave(self, place: SoloPlace, lengths: dict[Any, int]) -> None:
        """Free a row."""
        place.cache = None

    def forward(self, parts: Sequence[Part]) -> Tensor:
        """Logits after the last token of each part, `[R, V]` in the order of `parts`."""
        return torch.stack([self._forward_one(part, all_tokens=False)[-1] for part in parts])

    def forward_all(self, part: Part) -> Tensor:
        """Logits after every token of `part`, `[T, V]`."""
        return self._forward_one(part, all_tokens=True)

    def _forward_one(self, part: Part, *, all_tokens: bool) -> Tensor:
        place: Any = part.place
        inputs: dict[str, Any] = {"logits_to_keep": 1} if self._keeps_last and not all_tokens else {}
        if place.cache is not None:
            inputs[self._state] = place.cache
        count = len(part.token_ids)
        groups = [] if place.lora is None else [(0, count, place.lora)]
        with applied(groups, count):
            # No attention mask: nothing is padded, and some models would apply one of the whole length to new tokens.
            out = self._network(
                input_ids=torch.tensor([list(part.token_ids)], device=self._device),
                use_cache=True,
                **inputs,
            )
        place.cache = getattr(out, self._state)
        logits: Tensor = out.logits[0]
        return logits
