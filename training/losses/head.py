"""Log-probabilities of chosen tokens out of a chunked head: no tensor of all tokens times the vocabulary exists.

Forward and backward go through the hidden states in chunks; a chunk's scores are made, used and dropped, and made again
for the gradient. What is kept between the two is one number a token.

Source: Hsu et al. 2024, "Liger Kernel", arXiv:2410.10989, section 3.2 (fused linear cross entropy).
Deviation: gradients are made in the backward pass, since a policy's loss is known only after all log-probabilities are;
    entropy comes out of the same chunks and has its gradient too; rows are divided by their own temperature.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

Scores = Callable[[Tensor], Tensor]
"""Hidden states `[C, D]` to scores `[C, V]`."""


def _chunks(count: int, size: int) -> Iterator[slice]:
    return (slice(begin, min(begin + size, count)) for begin in range(0, count, size))


def _wide(scores: Tensor, temperatures: Tensor) -> Tensor:
    """At least float32, divided by temperature, in a tensor of its own."""
    wide = scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores.clone()
    return wide.div_(temperatures[:, None].to(wide.dtype))


class _LinearHead(torch.autograd.Function):
    """A plain linear head."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperatures: Tensor,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies."""
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        logprobs, totals, entropies = (torch.empty(len(targets), dtype=dtype, device=hidden.device) for _ in range(3))
        for part in _chunks(len(targets), chunk):
            scores = _wide(functional.linear(hidden[part], weight, bias), temperatures[part])
            totals[part] = torch.logsumexp(scores, dim=-1)
            logprobs[part] = scores.gather(1, targets[part, None])[:, 0] - totals[part]
            # H = log Z - sum p * score; the product is made in place of the scores' exponentials.
            odds = (scores - totals[part, None]).exp_()
            entropies[part] = totals[part] - odds.mul_(scores).sum(dim=-1)
        ctx.save_for_backward(hidden, weight, bias, targets, temperatures, totals, entropies)
        ctx.chunk = chunk
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of what needs one of the hidden states, the weights and the bias."""
        hidden, weight, bias, targets, temperatures, totals, entropies = ctx.saved_tensors
        by_logprob, by_entropy = gradients
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        of_hidden = torch.empty_like(hidden) if wants_hidden else None
        of_weight = torch.zeros(weight.shape, dtype=totals.dtype, device=weight.device) if wants_weight else None
        of_bias = torch.zeros(bias.shape, dtype=totals.dtype, device=bias.device) if wants_bias else None
        for part in _chunks(len(targets), ctx.chunk):
            scores = _wide(functional.linear(hidden[part], weight, bias), temperatures[part])
            logs = scores.sub_(totals[part, None])
            odds = logs.exp()
            # d log p_y = 1[y] - p;  d H = -p * (log p + H). An entropy nobody asked for costs one product.
            slope = logs.add_(entropies[part, None]).mul_(by_entropy[part, None]).add_(by_logprob[part, None])
            slope = odds.mul_(slope).neg_()
            slope.scatter_add_(1, targets[part, None], by_logprob[part, None].to(slope.dtype))
            slope = slope.div_(temperatures[part, None].to(slope.dtype)).to(hidden.dtype)
            if of_hidden is not None:
                of_hidden[part] = slope @ weight.to(slope.dtype)
            if of_weight is not None:
                of_weight += slope.T.to(of_weight.dtype) @ hidden[part].to(of_weight.dtype)
            if of_bias is not None:
                of_bias += slope.sum(dim=0)
        return (
            of_hidden,
            None if of_weight is None else of_weight.to(weight.dtype),
            None if of_bias is None else of_bias.to(bias.dtype),
            None,
            None,
            None,
        )


def _plain(hidden: Tensor, head: Scores, targets: Tensor, temperatures: Tensor) -> tuple[Tensor, Tensor]:
    scores = head(hidden)
    logs = torch.log_softmax(
        scores.to(torch.promote_types(scores.dtype, torch.float32)) / temperatures[:, None], dim=-1
    )
    return logs.gather(1, targets[:, None])[:, 0], -(logs.exp() * logs).sum(dim=-1)


def chunked_logprobs(
    hidden_ND: Tensor, head: Any, targets_N: Tensor, temperatures_N: Tensor, *, chunk_tokens: int
) -> tuple[Tensor, Tensor]:
    """`[N]` log-probabilities of `targets_N`, and `[N]` entropies in nats, both with gradients, in float32 at least.

    Args:
        hidden_ND: `[N, D]` what the head reads.
        head: a module of the scores; a plain `torch.nn.Linear` has the fast way, any other is run again for gradients.
        targets_N: `[N]` token ids.
        temperatures_N: `[N]` above 0.
        chunk_tokens: most tokens whose scores exist at once.
    """
    temperatures_N = temperatures_N.to(torch.promote_types(hidden_ND.dtype, torch.float32))
    if type(head) is torch.nn.Linear:
        scored: Any = _LinearHead.apply  # torch leaves it untyped
        logprobs_N, entropies_N = scored(hidden_ND, head.weight, head.bias, targets_N, temperatures_N, chunk_tokens)
        return logprobs_N, entropies_N
    outs = [
        checkpoint(_plain, hidden_ND[part], head, targets_N[part], temperatures_N[part], use_reentrant=False)
        for part in _chunks(len(targets_N), chunk_tokens)
    ]
    return torch.cat([one for one, _ in outs]), torch.cat([other for _, other in outs])
