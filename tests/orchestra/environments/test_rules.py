import pytest

from orchestra.environments import Rules
from orchestra.errors import InputError


@pytest.mark.parametrize(("tokens", "earned"), [(1, 0.0), (500, 0.0), (2048, 0.0), (3000, -0.2337), (4096, -0.5027)])
def test_the_released_length_term_only_ever_costs(tokens, earned):
    assert Rules().length_reward(tokens) == pytest.approx(earned, abs=5e-5)


@pytest.mark.parametrize(("tokens", "earned"), [(11, 0.5), (1030, 0.2499), (2048, 0.0), (4096, 0.0)])
def test_the_printed_length_term_only_ever_pays(tokens, earned):
    assert Rules(length="paper").length_reward(tokens) == pytest.approx(earned, abs=5e-5)


def test_a_length_that_is_not_known_or_not_asked_for_earns_nothing():
    assert Rules().length_reward(None) == Rules(length="paper").length_reward(None) == 0.0
    assert Rules(length="none").length_reward(10_000) == 0.0


@pytest.mark.parametrize(
    ("text", "move"),
    [
        ("<answer><BET></answer>", "<BET>"),
        (" \n<answer>\n <BET>\n</answer>\n", "<BET>"),
        ("<answer><BET> || <PASS></answer>", "<BET>"),
        ("<answer><BET>||</answer>", "<BET>"),
        ("<answer>|| <PASS></answer>", None),
        ("<answer> </answer>", None),
        ("<BET>", None),
        ("I bet. <answer><BET></answer>", None),
        ("<answer><BET></answer> I bet.", None),
        ("<answer><BET></answer><answer><PASS></answer>", None),
        ("<answer><BET> || </answer> or <answer><PASS></answer>", None),
        ("<answer><answer><BET></answer>", None),
        ("<think>hm</think><answer><BET></answer>", None),
        ("<answer><BET>", None),
        ("", None),
        (None, None),
    ],
)
def test_without_thinking_a_reply_is_an_answer_and_nothing_else(text, move):
    assert Rules().read(text) == move


@pytest.mark.parametrize(
    ("text", "move"),
    [
        ("<think>hm</think><answer><BET></answer>", "<BET>"),
        ("<think>\nhm\n</think>\n\n<answer><BET></answer>\n", "<BET>"),
        ("hm</think><answer><BET></answer>", "<BET>"),  # the prompt may have begun the thought
        ("<think></think><answer><BET> || <PASS></answer>", "<BET>"),
        ("<think>I could say <answer><PASS></answer></think><answer><BET></answer>", "<BET>"),
        ("<think>hm</think>So: <answer><BET></answer>", None),
        ("<think>hm</think> hm </think><answer><BET></answer>", None),
        ("<think>hm<answer><BET></answer>", None),
        ("<answer><BET></answer>", None),
        ("<think>hm</think><answer><BET></answer>!", None),
        ("<think>hm</think>", None),
    ],
)
def test_with_thinking_a_reply_is_a_thought_and_an_answer(text, move):
    assert Rules(thinking=True).read(text) == move


@pytest.mark.parametrize("thinking", [False, True])
def test_what_is_written_is_read(thinking):
    rules = Rules(thinking=thinking)
    assert rules.read(rules.written("<X(1,2)>")) == "<X(1,2)>"
    assert rules.read(rules.form) == "your action"


def test_open_answers_may_hold_what_parts_moves():
    assert Rules().inside("<answer>a || b</answer>") == "a || b"


@pytest.mark.parametrize(
    "wrong",
    [
        {"history": "some"},
        {"length": "long"},
        {"violation": -1.0},
        {"scale": 0.0},
        {"thinking": "yes"},
        {"thinking": 1},
        {"draw": "0.1"},
        {"format_bonus": "x"},
        {"scale": float("nan")},
        {"violation": float("inf")},
        {"draw": True},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match="got Rules"):
        Rules(**wrong)
