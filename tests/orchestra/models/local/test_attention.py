"""Attention of a packed pass against torch's own, in bfloat16 as on a processor and in float32."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from orchestra.models.local.attention import BLOCK_TOKENS, Chunk, How, Singles
from orchestra.models.local.places import Arena, Shape

HEADS, SHARED, SIZE, CAPACITY = 6, 2, 8, 512
DTYPES = st.sampled_from((torch.bfloat16, torch.float32))
WINDOWS = st.sampled_from((None, 3, 100))


def arena(dtype, rows):
    made = Arena(Shape(1, SHARED, SIZE, SIZE, dtype, torch.device("cpu")), CAPACITY)
    for _ in range(rows):
        made.enter()
    made.keys.normal_()
    made.values.normal_()
    return made


def states(count, heads, dtype):
    return torch.randn(count, heads, SIZE).to(dtype)


def expected(query_THD, keys_KLD, values_KLD, start, window):
    """By torch, in float32: query t sees the keys up to `start + t`, no more than `window` of them."""
    total = start + query_THD.shape[0]
    mine, places = torch.arange(start, total)[:, None], torch.arange(total)
    seen = (places <= mine) & (True if window is None else places > mine - window)
    out = functional.scaled_dot_product_attention(
        query_THD.float().transpose(0, 1)[None],
        keys_KLD[None, :, :total].float(),
        values_KLD[None, :, :total].float(),
        attn_mask=seen,
        enable_gqa=True,
    )
    return out[0].transpose(0, 1)


def agree(found, wanted, dtype):
    assert (found.float() - wanted).abs().max() <= (0.05 if dtype == torch.bfloat16 else 1e-5)


@given(count=st.integers(2, 2 * BLOCK_TOKENS + 3), start=st.integers(0, 200), window=WINDOWS, dtype=DTYPES)
def test_a_row_that_adds_several_tokens_reads_its_own_past(count, start, window, dtype):
    torch.manual_seed(count)
    kept = arena(dtype, 2)
    query, key, value = states(count, HEADS, dtype), states(count, SHARED, dtype), states(count, SHARED, dtype)
    found = Chunk(kept.places[1], start, 0, count).attend(0, query, key, value, How(None, window))
    assert torch.equal(kept.keys[0, 1, :, start : start + count], key.transpose(0, 1))
    agree(found, expected(query, kept.keys[0, 1], kept.values[0, 1], start, window), dtype)


@given(rows=st.sets(st.integers(0, 11), min_size=1), window=WINDOWS, dtype=DTYPES, spans=st.booleans())
def test_rows_that_add_one_token_each_read_their_own_past(rows, window, dtype, spans):
    torch.manual_seed(len(rows))
    kept, chosen = arena(dtype, 12), sorted(rows)
    positions = [(37 * row) % 200 for row in chosen]
    query, key, value = (states(len(chosen), heads, dtype) for heads in (HEADS, SHARED, SHARED))
    singles = Singles(
        arena=kept,
        rows=torch.tensor(chosen),
        positions=torch.tensor(positions),
        begin=0,
        longest=max(positions) + 1,
        span=slice(chosen[0], chosen[-1] + 1) if spans else None,
    )
    found = singles.attend(0, query, key, value, How(None, window))
    for number, (row, position) in enumerate(zip(chosen, positions, strict=True)):
        alone = query[number : number + 1]
        agree(
            found[number : number + 1], expected(alone, kept.keys[0, row], kept.values[0, row], position, window), dtype
        )


def test_a_scale_of_the_model_is_used():
    torch.manual_seed(0)
    kept = arena(torch.bfloat16, 1)
    query, key, value = (states(4, heads, torch.bfloat16) for heads in (HEADS, SHARED, SHARED))
    chunk = Chunk(kept.places[0], 0, 0, 4)
    plain = chunk.attend(0, query, key, value, How(None, None))
    assert torch.equal(chunk.attend(0, query, key, value, How(SIZE**-0.5, None)), plain)
    assert chunk.attend(0, query, key, value, How(2.0, None)).float() != pytest.approx(plain.float(), abs=0.05)
