"""Direct preference optimisation: two strands, one preferred."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from training.losses.figures import COUNT, Loss, Terms
from training.losses.network import Scored


def dpo(
    scored: Scored,
    terms: Terms,
    *,
    pairs: Sequence[tuple[int, int]],
    beta: float = 0.1,
    gamma: float = 1.0,
    count: int | None = None,
) -> Loss:
    """Mean over pairs of minus the log of the probability that the preferred strand wins.

    Args:
        scored: of a batch that holds both strands of each pair (`packed(..., together=...)`).
        terms: with a reference; weights are not used, since a strand's log-probability is the sum of its tokens'.
        pairs: preferred and other, as indices into the batch's `members`.
        beta: how strongly the reference holds.
        gamma: exponent of the reference's odds; 1 is DPO, 0 is free of the reference.
        count: pairs of the whole step, when it is made of several batches; `None` means these are all.

    Source: Rafailov et al. 2023, "Direct Preference Optimization", arXiv:2305.18290, equation 7; `gamma`: Chen et al.
        2024, "Preference Learning Algorithms Do Not Learn Preference Rankings", arXiv:2405.19534.
    Deviation: none.

    Raises:
        ValueError: without a reference or without pairs.
    """
    if terms.reference_N is None:
        raise ValueError("preference optimisation needs `reference_N`, which the terms do not have")
    if not pairs:
        raise ValueError("preference optimisation needs at least one pair, and there is none; leave such a batch out")
    strands = int(max(max(pair) for pair in pairs)) + 1
    margins_P = _margins(scored.logprobs_N, terms.strand_N, pairs, strands)
    expected_P = gamma * _margins(terms.reference_N, terms.strand_N, pairs, strands)
    scaled_P = beta * (margins_P - expected_P)
    value = -functional.logsigmoid(scaled_P).sum() / (len(pairs) if count is None else count)
    with torch.no_grad():
        metrics = {
            COUNT: torch.tensor(float(len(terms.strand_N))),
            "logprob": scored.logprobs_N.sum(),
            "entropy": scored.entropies_N.sum(),
            "pairs total": torch.tensor(float(len(pairs))),
            "ranked right total": (margins_P >= 0).float().sum(),
            "margin total": scaled_P.sum(),
            "loss total": value.detach(),
        }
    return Loss(value, metrics)


def _margins(logprobs_N: Tensor, strand_N: Tensor, pairs: Sequence[tuple[int, int]], strands: int) -> Tensor:
    """`[P]` log-probability of the preferred strand less that of the other."""
    size = max(strands, int(strand_N.max()) + 1)
    sums_S = torch.zeros(size, dtype=logprobs_N.dtype, device=logprobs_N.device).index_add(0, strand_N, logprobs_N)
    chosen = torch.tensor(pairs, device=logprobs_N.device)
    return sums_S[chosen[:, 0]] - sums_S[chosen[:, 1]]
