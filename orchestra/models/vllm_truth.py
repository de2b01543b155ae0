"""What is known of a server before it is asked to reply, and whether its log-probabilities are of what it drew from.

A server reports log-probabilities before temperature and truncation unless it was started with `--logprobs-mode
processed_logprobs`, and says nowhere which. For a temperature of 0 or 1 without truncation both are the same number.
For anything else a server that `orchestra serve` started has left a record; any other is asked for one token twice, at
a temperature of 0.2 and of 2: the second flattens the distribution, and a log-probability after temperature shows it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from graphs import Sampling
from orchestra.errors import ModelError
from orchestra.models.protocol import Usage
from orchestra.models.vllm_errors import malformed
from orchestra.models.vllm_wire import encoded

FLATTENED = 0.3
"""Ten times the temperature lowers the log-probability of the most probable token by more; numerics by far less."""

_PROMPT = (10, 20, 30)
"""Ids that every vocabulary has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a server says of itself and of one of its models."""

    root: str
    """Where it read the weights."""
    version: str | None
    """Of vLLM; `None` when it does not say, as other servers do not."""
    context_tokens: int | None
    """Longest prompt plus reply."""
    adapters: dict[str, str] = field(default_factory=dict)
    """Adapters that are loaded, by the name the server gives them, and where each was read."""


def facts_of(models: bytes, version: bytes | None, base: str, *, name: str) -> Facts:
    """What the answers of `/v1/models` and `/version` say of the model `base`.

    Raises:
        ModelError: the answer is no list of models, or `base` is not among them.
    """
    try:
        cards: list[dict[str, Any]] = json.loads(models)["data"]
        by_id = {str(card["id"]): card for card in cards}
        said = json.loads(version).get("version") if version is not None else None
    except (ValueError, TypeError, KeyError, AttributeError) as cause:
        raise malformed(name, models) from cause
    card = by_id.get(base)
    if card is None:
        raise ModelError(f"{name}: the server has no model {base!r}; it has {', '.join(sorted(by_id)) or 'none'}")
    limit = card.get("max_model_len")
    return Facts(
        root=str(card.get("root") or base),
        version=str(said) if said else None,
        context_tokens=limit if isinstance(limit, int) else None,
        adapters={key: str(value.get("root") or "") for key, value in by_id.items() if value.get("parent")},
    )


def served_adapter(wanted: str, facts: Facts, *, name: str) -> str:
    """What the server calls the adapter `wanted`: its name and version, or its name where one version is loaded.

    Raises:
        ModelError: it is not loaded, or in several versions.
    """
    if wanted in facts.adapters:
        return wanted
    found = sorted(adapter for adapter in facts.adapters if adapter.rpartition("@")[0] == wanted)
    if len(found) == 1:
        return found[0]
    if found:
        raise ModelError(f"{name}: adapter {wanted!r} is loaded in several versions; name one: {', '.join(found)}")
    raise ModelError(
        f"{name}: no adapter {wanted!r} is loaded; there is {', '.join(sorted(facts.adapters)) or 'none'}; "
        f"start the server with --adapter NAME=PATH, or publish it"
    )


class Worn:
    """Which adapter answers: the one a request asks for by its version, else the one of the model's own name.

    A name without version means the one that is loaded when this is first asked, and means it as long as the model is
    open: what is cached under it, and what a run says it was played with, is of one policy.

    Args:
        own: adapter in the model's name, with its version or without; `None` means there is none.
        name: of the model, for errors.
    """

    def __init__(self, own: str | None, *, name: str) -> None:
        self._own, self._name = own, name
        self._pinned: str | None = None

    def wanted(self, asked: str | None) -> str | None:
        """What to look for among the adapters that are loaded; `None` means the base weights are asked."""
        return asked or self._pinned or self._own

    def served(self, asked: str | None, facts: Facts) -> str | None:
        """What the server calls it; `None` means the base weights.

        Args:
            asked: what a request asks for; `None` leaves it to the model's name.
            facts: what the server says.

        Raises:
            ModelError: it is not loaded; or a request, whose key in the cache holds what it says, says no version.
        """
        wanted = self.wanted(asked)
        if wanted is None:
            return None
        if self._pinned not in (None, *facts.adapters) and not asked:
            raise ModelError(
                f"{self._name}: adapter {self._pinned!r}, which it began with, is not loaded any more; there is "
                f"{', '.join(sorted(facts.adapters)) or 'none'}; open the model again to have the one of today"
            )
        served = served_adapter(wanted, facts, name=self._name)
        if asked and served != asked:
            raise ModelError(f"{self._name}: a request for adapter {asked!r} says no version; ask for {served!r}")
        if not asked:
            self._pinned = served
        return served


def is_the_same_either_way(sampling: Sampling) -> bool:
    """Whether log-probabilities before and after temperature and truncation are the same numbers."""
    if sampling.temperature == 0:
        return True
    return sampling.temperature == 1 and sampling.top_p == 1 and sampling.top_k == 0


def probes(model: str) -> tuple[bytes, bytes]:
    """Two requests to `/v1/completions` whose answers tell; each draws one token."""
    cold, hot = (
        {"model": model, "prompt": list(_PROMPT), "max_tokens": 1, "temperature": heat, "logprobs": 1}
        for heat in (0.2, 2.0)
    )
    return encoded(cold), encoded(hot)


PROBING = Usage(input_tokens=2 * len(_PROMPT), output_tokens=2)
"""What the two take of the model."""
PROBE_TOKENS = len(_PROMPT) + 1
"""Of one of them, prompt and reply."""


def tells_processed(answers: Sequence[bytes]) -> bool:
    """Whether the answers to both probes show log-probabilities after temperature; an answer without any does not.

    >>> said = '{"choices": [{"logprobs": {"top_logprobs": [{" a": %s, " b": -12.0}]}}]}'
    >>> tells_processed([(said % -1.5).encode(), (said % -10.1).encode()])
    True
    """
    try:
        cold, hot = (
            max(json.loads(answer)["choices"][0]["logprobs"]["top_logprobs"][0].values()) for answer in answers
        )
        return bool(cold - hot > FLATTENED)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return False
