"""Log-probabilities in chunks: equal to the whole, in value, gradient and size."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from training.losses import clipped, prepared, terms, token_logprobs
from training.losses.head import chunked_logprobs
from training.samples import AGGREGATIONS, packed

TOKENS, WIDTH, WORDS = 23, 6, 31


class Largest(TorchDispatchMode):
    """Remembers the most elements any tensor had."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else [result]:
            if isinstance(each, torch.Tensor):
                self.elements = max(self.elements, each.numel())
        return result


def inputs(bias=False, dtype=torch.float64):
    torch.manual_seed(1)
    head = torch.nn.Linear(WIDTH, WORDS, bias=bias, dtype=dtype)
    hidden = torch.randn(TOKENS, WIDTH, dtype=dtype, requires_grad=True)
    return head, hidden, torch.randint(WORDS, (TOKENS,)), torch.rand(TOKENS, dtype=dtype) + 0.5


def whole(head, hidden, targets, temperatures):
    logs = torch.log_softmax(head(hidden) / temperatures[:, None], dim=-1)
    return logs.gather(1, targets[:, None])[:, 0], -(logs.exp() * logs).sum(-1)


def gradients(outs, leaves):
    logprobs, entropies = outs
    scale = torch.linspace(-1, 2, len(logprobs), dtype=logprobs.dtype)
    return torch.autograd.grad((logprobs * scale).sum() + (entropies * scale.flip(0)).sum(), leaves)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_chunks_equal_the_whole(bias, chunk):
    head, hidden, targets, temperatures = inputs(bias)
    leaves = [hidden, *head.parameters()]
    expected = whole(head, hidden, targets, temperatures)
    got = chunked_logprobs(hidden, head, targets, temperatures, chunk_tokens=chunk)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(gradients(got, leaves), gradients(expected, leaves))


def test_a_head_that_is_not_plain_is_run_again_for_its_gradients():
    head, hidden, targets, temperatures = inputs()
    deeper = torch.nn.Sequential(head, torch.nn.Tanh())
    leaves = [hidden, *deeper.parameters()]
    expected = whole(deeper, hidden, targets, temperatures)
    got = chunked_logprobs(hidden, deeper, targets, temperatures, chunk_tokens=5)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(gradients(got, leaves), gradients(expected, leaves))


def test_gradients_agree_with_finite_differences():
    head, hidden, targets, temperatures = inputs()
    head.weight.requires_grad_(False)

    def figures(states):
        return chunked_logprobs(states, head, targets, temperatures, chunk_tokens=4)

    assert torch.autograd.gradcheck(figures, (hidden,))


def test_a_frozen_head_gets_no_gradient():
    head, hidden, targets, temperatures = inputs()
    head.requires_grad_(False)
    logprobs, _ = chunked_logprobs(hidden, head, targets, temperatures, chunk_tokens=4)
    logprobs.sum().backward()
    assert head.weight.grad is None
    assert hidden.grad is not None


def test_certain_tokens_have_no_entropy_and_no_nan():
    head, hidden, targets, temperatures = inputs()
    with torch.no_grad():
        head.weight.mul_(1e4)
    logprobs, entropies = chunked_logprobs(hidden, head, targets, temperatures, chunk_tokens=4)
    slopes = torch.autograd.grad(logprobs.sum() + entropies.sum(), hidden)[0]
    assert torch.isfinite(slopes).all()
    torch.testing.assert_close((logprobs, entropies), whole(head, hidden, targets, temperatures))


def test_no_tensor_of_all_tokens_times_the_vocabulary_exists(tiny_network, family):
    network = tiny_network("llama")
    network.resize_token_embeddings(4000)
    network.requires_grad_(False)
    network.model.layers[0].self_attn.q_proj.weight.requires_grad_(True)
    assert prepared(network)
    (batch,) = packed(family, 10_000)
    advantages = tuple(np.ones(strand.trained) for strand in family)
    figures = terms(batch, AGGREGATIONS["token-mean"](family), advantages=advantages)
    with Largest() as largest:
        loss = clipped(token_logprobs(network, batch, chunk_tokens=16), figures)
        loss.value.backward()
    assert batch.trained > 150
    assert largest.elements <= max(16 * 4000, 4000 * 32)
