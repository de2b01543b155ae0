"""Drawing the next token of every row at once, each row with its own rule and its own random numbers.

The log-probability that comes back is that of the distribution the token was drawn from: after temperature, `top_k`
and `top_p`, renormalised. A temperature of 0 takes the most probable token; that rule's own distribution is a point
mass, which says nothing, so its log-probability is read from the untempered, untruncated softmax.

Source:
    Holtzman et al. 2019, "The Curious Case of Neural Text Degeneration", arXiv:1904.09751, section 3.1 (nucleus).
    Deviation: `top_k` keeps exactly k tokens, where common code keeps every token tied with the k-th; the draw inverts
    the cumulative distribution with one uniform number per token, so a row's draws need no more than its own seed.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NUCLEUS_CANDIDATES = 512
"""Most probable tokens looked at first for `top_p`; a row whose nucleus is larger is sorted whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chooser:
    """How one row draws."""

    temperature: float
    top_k: int
    top_p: float
    generator: torch.Generator
    """Advanced by one uniform number per drawn token."""
    dictated: Iterator[Sequence[int]] | None = None
    """Draws nothing: each token is the likeliest of the next ids here, with the log-probability of any of them. Nothing
    is truncated, and the temperature is above 0. `None` draws."""

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is taken."""
        return self.temperature == 0.0

    @property
    def truncates(self) -> bool:
        """Whether some tokens can never be drawn."""
        return self.top_k > 0 or self.top_p < 1.0


def generator_of(seed: int | None, sample_index: int) -> torch.Generator:
    """The random numbers of one sample: the same for the same seed and index, unrelated for any other pair."""
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        digest = hashlib.sha256(f"{seed}/{sample_index}".encode()).digest()
        generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return generator


def draw(logits_RV: Tensor, choosers: Sequence[Chooser]) -> tuple[list[int], list[float]]:
    """Token id and its log-probability for each row.

    Args:
        logits_RV: `[R, V]`, any floating dtype.
        choosers: one per row.
    """
    tokens, logprobs = [0] * len(choosers), [0.0] * len(choosers)
    kinds = {
        _greedy: [r for r, c in enumerate(choosers) if c.is_greedy],
        _tempered: [r for r, c in enumerate(choosers) if not (c.is_greedy or c.truncates or c.dictated)],
        _truncated: [r for r, c in enumerate(choosers) if not c.is_greedy and c.truncates],
        _dictated: [r for r, c in enumerate(choosers) if c.dictated is not None],
    }
    for rule, rows in kinds.items():
        if not rows:
            continue
        chosen = logits_RV if len(rows) == len(choosers) else logits_RV[rows]
        drawn, scored = rule(chosen, [choosers[r] for r in rows])
        for r, token, logprob in zip(rows, drawn, scored, strict=True):
            tokens[r], logprobs[r] = token, logprob
    return tokens, logprobs


def _greedy(logits_RV: Tensor, choosers: Sequence[Chooser]) -> tuple[list[int], list[float]]:
    logits_RV = logits_RV.float()
    best_R, tokens_R = logits_RV.max(dim=-1)
    # Subtracting the peak first keeps the sum in range; nothing of size [R, V] but the exponentials is made.
    logprobs_R = -(logits_RV - best_R[:, None]).exp_().sum(dim=-1).log_()
    return tokens_R.tolist(), logprobs_R.tolist()


def _tempered(logits_RV: Tensor, choosers: Sequence[Chooser]) -> tuple[list[int], list[float]]:
    logprobs_RV = torch.log_softmax(_divided(logits_RV, choosers), dim=-1)
    tokens_R = _inverted(logprobs_RV.exp(), choosers)
    return tokens_R.tolist(), logprobs_RV.gather(1, tokens_R[:, None])[:, 0].tolist()


def _truncated(logits_RV: Tensor, choosers: Sequence[Chooser]) -> tuple[list[int], list[float]]:
    divided_RV = _divided(logits_RV, choosers)
    tokens, logprobs = [], []
    for row_V, chooser in zip(divided_RV, choosers, strict=True):
        kept_K, ids_K = _kept(row_V, chooser)
        scores_K = torch.log_softmax(kept_K, dim=-1)
        place = _inverted(scores_K.exp()[None], [chooser])[0]
        tokens.append(int(ids_K[place]))
        logprobs.append(float(scores_K[place]))
    return tokens, logprobs


def _dictated(logits_RV: Tensor, choosers: Sequence[Chooser]) -> tuple[list[int], list[float]]:
    logprobs_RV = torch.log_softmax(_divided(logits_RV, choosers), dim=-1)
    tokens, logprobs = [], []
    for row_V, chooser in zip(logprobs_RV, choosers, strict=True):
        assert chooser.dictated is not None, "it is why the row is here"
        ids = list(next(chooser.dictated))
        chosen_E = row_V[torch.tensor(ids, device=row_V.device)]
        tokens.append(ids[int(chosen_E.argmax())])
        logprobs.append(min(0.0, float(torch.logsumexp(chosen_E, dim=0))))
    return tokens, logprobs


def _divided(logits_RV: Tensor, choosers: Sequence[Chooser]) -> Tensor:
    temperatures_R = torch.tensor([c.temperature for c in choosers], device=logits_RV.device)
    return logits_RV.float() / temperatures_R[:, None]


def _kept(row_V: Tensor, chooser: Chooser) -> tuple[Tensor, Tensor]:
    """Scores and ids that survive `top_k`, then `top_p` of what is left, most probable first."""
    size = row_V.shape[0]
    wanted = min(chooser.top_k, size) if chooser.top_k else min(NUCLEUS_CANDIDATES, size)
    kept_K, ids_K = torch.topk(row_V, wanted)
    if chooser.top_p == 1.0:
        return kept_K, ids_K
    total = torch.logsumexp(kept_K if chooser.top_k else row_V, dim=-1)
    reached_K = (kept_K - total).exp().double().cumsum(dim=-1)
    if not chooser.top_k and wanted < size and float(reached_K[-1]) < chooser.top_p:
        kept_K, ids_K = torch.sort(row_V, descending=True)
        reached_K = (kept_K - total).exp().double().cumsum(dim=-1)
    count = int((reached_K < chooser.top_p).sum()) + 1
    return kept_K[:count], ids_K[:count]


def _inverted(weights_RV: Tensor, choosers: Sequence[Chooser]) -> Tensor:
    """One index per row, by inverting its cumulative weights at one uniform number of its own generator."""
    uniform_R = torch.stack([torch.rand((), generator=c.generator, dtype=torch.float64) for c in choosers])
    reached_RV = weights_RV.cumsum(dim=-1, dtype=torch.float64)
    aims_R = uniform_R.to(weights_RV.device) * reached_RV[:, -1]
    places_R = torch.searchsorted(reached_RV, aims_R[:, None], right=True)[:, 0]
    # Rounding may put the aim on the last step exactly; the last token of positive weight is then meant.
    last_R = torch.searchsorted(reached_RV, reached_RV[:, -1:].contiguous(), right=False)[:, 0]
    return torch.minimum(places_R, last_R)
