"""Tiny networks and strands for them."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from training.samples import Span, Strand

VOCABULARY = 89

_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.3,
    "pad_token_id": None,
}


@pytest.fixture
def tiny_network():
    """Makes a random network by architecture; its numbers are large enough that attention matters."""

    def made(kind="llama", dtype=torch.float32):
        torch.manual_seed(7)
        if kind == "llama":
            network = LlamaForCausalLM(LlamaConfig(**_SHAPE))
        elif kind == "qwen3":
            network = Qwen3ForCausalLM(Qwen3Config(**_SHAPE, head_dim=8))
        else:
            config = Qwen3Config(
                **_SHAPE,
                head_dim=8,
                use_sliding_window=True,
                sliding_window=16,
                layer_types=["sliding_attention", "full_attention"],
            )
            network = Qwen3ForCausalLM(config)
        return network.to(dtype)

    return made


@pytest.fixture
def family():
    """Five strands of two turns each, of unequal lengths; four share prefixes of unequal lengths."""
    rng = np.random.default_rng(3)
    stem = rng.integers(0, VOCABULARY, 70)
    made = []
    for at, shared in enumerate((45, 40, 70, 70, 0)):
        length = 72 + 5 * at
        ids = rng.integers(0, VOCABULARY, length)
        ids[:shared] = stem[:shared]
        spans = (
            Span(turn=0, start=30 + at, end=44, temperature=0.7),
            Span(turn=1, start=60, end=length, temperature=1.3),
        )
        count = sum(span.tokens for span in spans)
        made.append(
            Strand(
                agent="a",
                episode_id=str(at),
                seat=at % 2,
                node="n",
                token_ids=ids,
                spans=spans,
                logprobs=-rng.random(count) * 4,
            )
        )
    return made
