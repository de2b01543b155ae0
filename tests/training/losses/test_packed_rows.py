"""Packing changes nothing: losses and gradients equal those of one strand at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestra.errors import InputError
from training.losses import TokenLogprobs, clipped, merged, prepared, terms, token_logprobs
from training.samples import AGGREGATIONS, packed, unpacked


@pytest.fixture
def sampled(family, tiny_network):
    """The family as a network not far away would have sampled it, so that ratios are near 1."""

    def made(kind="llama"):
        network, rng = tiny_network(kind), np.random.default_rng(2)
        with torch.no_grad():
            own = [token_logprobs(network, batch).logprobs_N.double().numpy() for batch in unpacked(family)]
        return [
            replace(strand, logprobs=logprobs + rng.normal(scale=0.2, size=len(logprobs)))
            for strand, logprobs in zip(family, own, strict=True)
        ]

    return made


def step(network, strands, batches, **options):
    """Loss, gradients and metrics of a whole step."""
    rng = np.random.default_rng(0)
    advantages = tuple(strand.along(rng.normal(size=len(strand.spans))) for strand in strands)
    reference = tuple(strand.logprobs - 0.1 for strand in strands)
    weights = AGGREGATIONS["turn-mean"](strands)
    network.zero_grad()
    total, metrics = 0.0, []
    for batch in batches:
        figures = terms(batch, weights, advantages=advantages, reference=reference, dtype=network.dtype)
        loss = clipped(token_logprobs(network, batch, chunk_tokens=13), figures, kl=0.2, entropy=0.05, **options)
        loss.value.backward()
        total += loss.value.item()
        metrics.append(loss.metrics)
    gradients = {name: weight.grad.clone() for name, weight in network.named_parameters()}
    return total, gradients, merged(metrics)


def furthest(one, other):
    scale = max(gradient.abs().max() for gradient in one.values())
    return max(float((one[name] - other[name]).abs().max() / scale) for name in one)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "sliding"])
@pytest.mark.parametrize("limit", [10_000, 150])
@pytest.mark.parametrize("share", [True, False])
def test_loss_and_gradients_equal_the_unpacked_ones(tiny_network, sampled, kind, limit, share):
    family = sampled(kind)
    network = tiny_network(kind)
    expected, wanted, figures = step(network, family, unpacked(family))
    assert prepared(network)
    loss, gradients, measured = step(network, family, packed(family, limit, share_prefixes=share))
    assert loss == pytest.approx(expected, abs=1e-5)
    assert furthest(wanted, gradients) < 1e-5
    assert measured == pytest.approx(figures, rel=1e-4, abs=1e-4)


def test_sharing_really_saves_tokens(family):
    (batch,) = packed(family, 10_000)
    assert batch.tokens < batch.strand_tokens - 120


def test_bfloat16_is_equal_within_its_noise(tiny_network, sampled):
    family = sampled()
    exact = tiny_network("llama")
    expected, wanted, _ = step(exact, family, unpacked(family))
    coarse = tiny_network("llama", torch.bfloat16)
    alone, separate, _ = step(coarse, family, unpacked(family))
    assert prepared(coarse)
    together, joined, _ = step(coarse, family, packed(family, 10_000))
    noise, distance = furthest(wanted, separate), furthest(separate, joined)
    assert abs(together - alone) < max(0.05, 2 * abs(alone - expected))
    assert distance < 2 * noise


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(5)), limit=st.integers(100, 500))
def test_neither_order_nor_micro_batches_change_the_step(tiny_network, sampled, order, limit):
    family = sampled()
    network = tiny_network("llama", torch.float64)
    assert prepared(network)
    rng = np.random.default_rng(0)
    advantages = [strand.along(rng.normal(size=2)) for strand in family]

    def gradient(places, most):
        chosen = [family[at] for at in places]
        weights = AGGREGATIONS["seq-mean-token-mean"](chosen)
        network.zero_grad()
        for batch in packed(chosen, most):
            figures = terms(batch, weights, advantages=[advantages[at] for at in places], dtype=torch.float64)
            clipped(token_logprobs(network, batch), figures).value.backward()
        return {name: weight.grad.clone() for name, weight in network.named_parameters()}

    assert furthest(gradient(range(5), 10_000), gradient(order, limit)) < 1e-6  # norms are float32 in any network


def test_gradient_checkpointing_gives_the_same_gradients(tiny_network, sampled):
    family = sampled()
    network = tiny_network("llama")
    assert prepared(network)
    batches = packed(family, 10_000)
    expected, wanted, _ = step(network, family, batches)
    network.train()
    network.activation_checkpointing_enable()
    loss, gradients, _ = step(network, family, batches)
    assert loss == pytest.approx(expected, abs=1e-6)
    assert furthest(wanted, gradients) < 1e-5


def test_a_network_with_capped_scores_is_left_as_it_was(family):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    network = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=89,
            hidden_size=32,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            final_logit_softcapping=None,
            initializer_range=0.3,
            attn_implementation="eager",
        )
    )
    assert not prepared(network)
    assert network.config._attn_implementation == "eager"
    assert token_logprobs(network, unpacked(family)[0]).logprobs_N.isfinite().all()
    with pytest.raises(InputError, match=r"made ready by `training\.losses\.prepared`"):
        token_logprobs(network, packed(family, 10_000)[0])


def test_a_network_that_changes_its_scores_after_the_head_is_refused():
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=89,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        final_logit_softcapping=2.0,
        initializer_range=0.5,
        attn_implementation="eager",
    )
    with pytest.raises(InputError, match="changes its scores after its head"):
        prepared(Gemma2ForCausalLM(config))


def test_the_module_says_what_the_function_says(tiny_network, family):
    network = tiny_network("llama")
    assert prepared(network)
    (batch,) = packed(family, 10_000)
    logprobs, entropies = TokenLogprobs(network, 13)(batch)
    scored = token_logprobs(network, batch)
    torch.testing.assert_close(logprobs, scored.logprobs_N)
    torch.testing.assert_close(entropies, scored.entropies_N)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft 0.21 asks for it
def test_only_an_adapter_gets_gradients(tiny_network, family):
    from peft import LoraConfig, get_peft_model

    network = get_peft_model(tiny_network("llama"), LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    assert prepared(network)
    weights = AGGREGATIONS["token-mean"](family)
    advantages = tuple(np.ones(strand.trained) for strand in family)
    (batch,) = packed(family, 10_000)
    with torch.no_grad(), network.disable_adapter():
        reference = token_logprobs(network, batch).logprobs_N
    figures = terms(batch, weights, advantages=advantages)
    scored = token_logprobs(network, batch)
    torch.testing.assert_close(scored.logprobs_N, reference)
    clipped(scored, figures).value.backward()
    learnt = {name for name, weight in network.named_parameters() if weight.grad is not None}
    assert learnt
    assert all("lora_" in name for name in learnt)
