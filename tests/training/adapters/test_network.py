import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, OPTConfig, OPTForCausalLM

from orchestra.errors import InputError
from training.adapters import NotFinite, Shape, adapted
from training.samples import Span, Strand, unpacked

PROBE = tuple(range(3, 40))


def said(adapted):
    """Sum of the log-probabilities of the probe, with its gradient."""
    strand = Strand(
        agent="probe",
        episode_id="1",
        seat=0,
        node="probe",
        token_ids=np.array(PROBE),
        spans=(Span(turn=0, start=1, end=len(PROBE)),),
        logprobs=np.zeros(len(PROBE) - 1),
    )
    logprobs_N, _ = adapted.scorer(unpacked([strand])[0])
    return logprobs_N.sum()


def test_an_adapter_that_has_learnt_nothing_is_the_base(network):
    fresh = network(initial_b=0.0)
    assert fresh.logprobs("player", PROBE) == fresh.logprobs(None, PROBE)


def test_each_agent_has_its_own_adapter_and_none_touches_another(network):
    both = network(("alice", "bob"))
    alone = network(("bob",))
    assert both.logprobs("alice", PROBE) != both.logprobs("bob", PROBE)
    assert both.logprobs("bob", PROBE) == alone.logprobs("bob", PROBE)  # drawn from seed and name, not from the order
    assert both.logprobs(None, PROBE) == alone.logprobs(None, PROBE)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft 0.21 asks for it
def test_the_log_probabilities_are_those_of_peft_alone(network, folder, tmp_path):
    ours = network()
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    theirs = peft.get_peft_model(plain, config).eval()
    peft.set_peft_model_state_dict(theirs, ours.tensors("player"))
    ids = torch.tensor([PROBE])
    theirs = theirs.float()
    with torch.no_grad():
        logs = torch.log_softmax(theirs(ids).logits[0, :-1], dim=-1)
    expected = logs.gather(1, ids[0, 1:, None])[:, 0].tolist()
    assert ours.logprobs("player", PROBE) == pytest.approx(expected, abs=1e-4)


def test_gradients_reach_the_active_adapter_alone_and_all_stay_trainable(network):
    both = network(("alice", "bob"))
    both.activate("alice")
    said(both).backward()
    assert all(matrix.grad is not None for matrix in both.parameters("alice").values())
    assert all(matrix.grad is None and matrix.requires_grad for matrix in both.parameters("bob").values())
    assert not any(p.requires_grad for n, p in both.network.named_parameters() if "lora_" not in n)


def test_the_base_may_be_bfloat16_and_adapters_stay_float32(network):
    small = network(dtype="bfloat16")
    kinds = {("lora_" in name, value.dtype) for name, value in small.network.named_parameters()}
    assert kinds == {(False, torch.bfloat16), (True, torch.float32)}
    exact = network().logprobs("player", PROBE)
    gaps = [abs(one - other) for one, other in zip(small.logprobs("player", PROBE), exact, strict=True)]
    assert sum(gaps) / len(gaps) < 0.5


def test_checkpointing_changes_no_gradient(network):
    found = []
    for checkpointing in (False, True):
        made = network(checkpointing=checkpointing)
        made.activate("player")
        said(made).backward()
        found.append([matrix.grad for matrix in made.parameters("player").values()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_the_same_numbers_have_the_same_version_and_others_another(network):
    one, same, other = network(), network(), network(seed=1)
    assert one.weights("player", PROBE).version == same.weights("player", PROBE).version
    assert one.weights("player", PROBE).version != other.weights("player", PROBE).version


def test_matrices_of_another_base_or_rank_are_refused(network):
    with pytest.raises(InputError, match="another base, or another rank"):
        network().fill("player", network(rank=8).tensors("player"))
    with pytest.raises(InputError, match="another base, or on other layers"):
        network().fill("player", {"strange": torch.zeros(1)})


@pytest.mark.parametrize(
    ("agents", "settings", "words"),
    [
        ({"a.b": Shape()}, {}, "letters, digits"),
        ({}, {}, "nobody is to be trained"),
        ({"player": Shape()}, {"dtype": "bfloat"}, "did you mean 'bfloat16'"),
        ({"player": Shape(targets=("q_prj",))}, {}, "cannot have this adapter"),
    ],
)
def test_what_cannot_be_is_an_input_error(folder, agents, settings, words):
    with pytest.raises(InputError, match=words):
        adapted(folder, agents, **settings)


def test_a_folder_without_a_model_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no language model to train"):
        adapted(tmp_path, {"player": Shape()})


def test_an_agent_may_be_called_as_a_layer_is(network):
    names = ("model", "layers", "0", "1", "lora_A", "weight")
    several = network(names)
    plain = network(("player",)).tensors("player")
    assert all(several.tensors(name).keys() == plain.keys() for name in names)
    assert len({id(matrix) for name in names for matrix in several.parameters(name).values()}) == len(names) * len(
        plain
    )


def test_nothing_is_dropped_while_layers_are_checkpointed(tmp_path):
    config = OPTConfig(
        vocab_size=64,
        hidden_size=16,
        ffn_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        dropout=0.5,
        layerdrop=0.5,
    )
    OPTForCausalLM(config).save_pretrained(tmp_path)
    made = adapted(tmp_path, {"player": Shape(initial_b=0.1)}, checkpointing=True)
    once = said(made)
    assert all(said(made) == once for _ in range(3))


def test_a_probe_that_scores_no_number_is_an_error(network):
    broken = network()
    with torch.no_grad():
        next(iter(broken.parameters("player").values())).fill_(float("nan"))
    with pytest.raises(NotFinite, match="lower learning rate"):
        broken.weights("player", PROBE)
