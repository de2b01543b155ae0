import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestra.environments import environment
from orchestra.environments.reasoning import RUN_ANSWERS, UNKNOWN
from orchestra.errors import InputError, Untrusted


def test_the_data_set_s_own_answer_scores_one_and_another_what_its_rule_says():
    place = environment("reasoning-gym:chain_sum", config={"max_terms": 2})
    right, wrong = place.begin(5), place.begin(5)
    (answer,) = right.legal()
    assert right.reply(right.answer(answer), 20).rewards == (1.05,)
    assert wrong.reply("<answer>unknowable</answer>").rewards == (0.05,)
    assert (right.returns, wrong.returns) == ((1.0,), (0.0,))
    assert right.to_move is None
    assert right.legal() == ()


def test_a_seed_draws_a_question_and_another_seed_another():
    place = environment("reasoning-gym:chain_sum")
    asked = [place.begin(seed).observation(0) for seed in (*range(30), *range(500, 530), 2**40)]
    assert len(set(asked)) == len(asked)
    assert environment("reasoning-gym:chain_sum").begin(513).observation(0) == asked[43]


def test_a_reply_without_the_form_costs_what_a_question_is_worth():
    table = environment("reasoning-gym:chain_sum").begin(1)
    outcome = table.reply(f"It is {table.legal()[0]}.")
    assert outcome.rewards == (-1.0,)
    assert outcome.violation == "the reply is not of the form <answer>your answer</answer>"
    assert table.returns == (0.0,)


def test_thoughts_and_rewards_are_those_of_games():
    place = environment("reasoning-gym:chain_sum", thinking=True, scale=2.0, format_bonus=0.0, violation=10.0)
    table = place.begin(1)
    assert table.reply(f"<think>easy</think><answer>{table.legal()[0]}</answer>", 3000).rewards[0] == pytest.approx(
        2.0 - 0.2337, abs=5e-5
    )
    assert place.begin(1).reply("<answer>1</answer>").rewards == (-10.0,)


def test_an_answer_that_nobody_knows_has_an_example_all_the_same():
    table = environment("reasoning-gym:propositional_logic").begin(1)
    assert table.legal() == (UNKNOWN,)
    assert table.reply(table.answer(UNKNOWN)).valid


def test_a_rule_that_fails_on_an_answer_scores_it_zero():
    class Broken:
        def score_answer(self, answer, entry):
            raise RecursionError(answer)

    place = environment("reasoning-gym:chain_sum")
    place._of_seed = lambda seed: Broken()
    assert place.score("((((", {}) == 0.0


@pytest.mark.parametrize(("found", "score"), [(1.7, 1.0), (-0.2, 0.0), (0.25, 0.25)])
def test_a_score_stays_in_its_range(found, score):
    class Generous:
        def score_answer(self, answer, entry):
            return found

    place = environment("reasoning-gym:chain_sum")
    place._of_seed = lambda seed: Generous()
    assert place.score("1", {}) == score


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("chain_sums", {}, "did you mean 'chain_sum'"),
        ("chain_sum", {"config": {"max_terms": 0}}, "max_terms must be"),
        ("chain_sum", {"config": {"terms": 3}}, "terms"),
        ("chain_sum", {"config": {"seed": 3}}, "leave size and seed out"),
        ("chain_sum", {"thoughts": True}, "thoughts"),
    ],
)
def test_what_cannot_be_opened_is_refused_with_the_reason(name, options, said):
    with pytest.raises(InputError, match=said):
        environment(f"reasoning-gym:{name}", **options)


def test_a_data_set_that_runs_answers_as_code_needs_trust():
    with pytest.raises(Untrusted, match="running answers as Python code"):
        environment("reasoning-gym:n_queens")
    assert environment("reasoning-gym:n_queens", trust=True).begin(1).legal()


def test_every_data_set_whose_source_hands_an_answer_to_eval_is_among_those():
    import reasoning_gym

    runs = re.compile(r"(?:\beval|parse_expr)\(answer\b")
    found = set()
    for path in Path(reasoning_gym.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if runs.search(text):
            found |= set(re.findall(r"register_dataset\(\s*DATASET_NAME", text)) and set(
                re.findall(r'DATASET_NAME = "(\w+)"', text)
            )
    assert found == RUN_ANSWERS - {"composite"}


def test_the_package_is_loaded_when_a_data_set_is_opened_and_named_when_it_is_not_there():
    code = (
        "import sys, orchestra.environments.reasoning\n"
        "from orchestra.environments import environment\n"
        "print('reasoning_gym' in sys.modules)\n"
        "sys.modules['reasoning_gym'] = None\n"
        "try: environment('reasoning-gym:chain_sum')\n"
        "except ImportError as missing: print(type(missing).__name__, missing)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "False",
        "MissingExtra a data set of reasoning-gym needs an extra: pip install 'orchestra-mas[reasoning-gym]'",
    ]
