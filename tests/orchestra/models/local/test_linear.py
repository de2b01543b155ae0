import pytest
import torch
from torch import nn

from orchestra.models.local.linear import lay_out


def network(dtype, *, bias):
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(64, 96, bias=bias), nn.Linear(96, 32, bias=bias)).to(dtype)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tokens", [1, 16, 100])
def test_laid_out_layers_give_the_same_product(bias, tokens):
    plain, laid = network(torch.bfloat16, bias=bias), network(torch.bfloat16, bias=bias)
    lay_out(laid)
    with torch.inference_mode():
        states = torch.randn(1, tokens, 64, dtype=torch.bfloat16)
        difference = (plain(states) - laid(states)).float().abs().max()
    assert difference <= 0.02


def test_exact_number_formats_are_left_alone():
    assert lay_out(network(torch.float32, bias=True)) == 0


async def test_a_bfloat16_model_answers_within_its_rounding(asking, tiny, plain):
    reply = await asking.answer(tiny(dtype="bfloat16"), asking.asked("go", max_tokens=8))
    exact, _ = plain()
    ids = torch.tensor([(*reply.prompt_token_ids, *reply.token_ids)])
    with torch.inference_mode():
        logits_TV = exact(ids).logits[0, len(reply.prompt_token_ids) - 1 : -1]
    expected_T = logits_TV.log_softmax(-1).gather(1, torch.tensor(reply.token_ids)[:, None])[:, 0]
    assert reply.logprobs == pytest.approx(expected_T.tolist(), abs=0.4)
