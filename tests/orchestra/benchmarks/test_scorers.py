import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.benchmarks.scorers import contains, exact, last_number, number, numeric, regex, score
from orchestra.benchmarks.tasks import Task
from orchestra.errors import InputError, Untrusted


@pytest.mark.parametrize(
    ("reply", "target", "right"),
    [
        ("3965", "3965", 1),
        ("61 * 65 = 3965", "3965", 1),
        ("61*65=3965.", "3965", 1),
        ("3965 = 61 * 65", "3965", 0),
        ("The answer is **3,965**.", "3965", 1),
        ("1,234.50", "1234.5", 1),
        ("$1,234.50 in all", "1,234.50", 1),
        ("1,234,567", "1234567", 1),
        ("39650", "3965", 0),
        ("3965.5", "3965", 0),
        ("-5", "-5", 1),
        ("−5", "-5", 1),
        ("-$5", "-5", 1),
        ("$-5.00", "-5", 1),
        ("-5", "5", 0),
        ("5", "-5", 0),
        ("3 - 8 = -5", "-5", 1),
        ("10-5", "5", 1),
        ("2024-01-15", "15", 1),
        ("(7)-5", "5", 1),
        ("12 km", "12", 1),
        ("12km", "12", 1),
        ("12 m2", "12", 1),
        ("12 m^2", "12", 1),
        ("12 m²", "12", 1),
        ("15%", "15", 1),
        ("15 %", "15%", 1),
        ("about 1.5e3", "1500", 1),
        (".5", "0.5", 1),
        ("0.30000000000000004", "0.3", 1),
        ("37.7778", "37.78", 0),
        ("no idea", "5", 0),
        ("", "5", 0),
        ("1, 2, 3", "3", 1),
        ("1,2,3", "3", 1),
        ("version 1.2.3", "1.2", 1),
        ("\\boxed{3965}", "3965", 1),
        ("+5", "5", 1),
    ],
)
def test_the_last_number_decides(reply, target, right):
    assert numeric(reply, target) == right


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=3))
def test_a_number_is_found_however_it_is_formatted(value):
    for written in (f"{value}", f"{value:,}", f"It is {value:,}.", f"x = {value} km"):
        assert last_number(written) == value
        assert numeric(written, str(value)) == 1


@pytest.mark.parametrize("text", ["", "five", "5 km", "5 6", "1/2", "-", "$", "1,23"])
def test_a_target_is_one_number_and_nothing_else(text):
    assert number(text) is None


@pytest.mark.parametrize(
    ("reply", "target", "right"),
    [
        ("The answer is 5.", "5", 1),
        ("15", "5", 0),
        ("50", "5", 0),
        ("1.5", "5", 0),
        ("5.25", "5", 0),
        ("5,000", "5", 0),
        ("-5", "5", 0),
        ("it is -5", "5", 0),
        ("it is −5", "5", 0),
        ("it is -5", "-5", 1),
        ("x=5", "5", 1),
        ("May 5, 2024", "5", 1),
        ("1234567", "123456", 0),
        ("(5)", "5", 1),
        ("a catalogue", "cat", 0),
        ("a cat!", "CAT", 1),
        ("XXIV", "XIV", 0),
        ("It is Wednesday", "wednesday", 1),
        ("the wednesdays", "wednesday", 1),
        ("New\n  York", "new york", 1),
        ("NewYork", "new york", 1),
        ("12 km", "12km", 0),
        ("12km", "12 km", 1),
        ("112 km", "12 km", 0),
        ("GRÜẞE an alle Leute", "grüẞe an alle", 1),
        ("a.b", "a+b", 0),
        ("C++ it is", "c++", 1),
    ],
)
def test_a_short_target_is_found_as_a_word_of_its_own(reply, target, right):
    assert contains(reply, target) == right


def test_exact_forgives_white_space_at_the_ends_only():
    assert (exact(" a b\n", "a b"), exact("a  b", "a b"), exact("A b", "a b")) == (1, 0, 0)


def test_a_regular_expression_is_searched_for():
    assert (regex("it is 5 km", r"\b5\s*km\b"), regex("15 km", r"\b5\s*km\b")) == (1, 0)


def test_no_reply_scores_nothing_and_no_target_cannot_be_scored():
    assert score(Task(id="t", input="?", target="5"), None) == 0
    with pytest.raises(InputError, match="'t' has no target"):
        score(Task(id="t", input="?"), "5")


OWN = """
def half(reply, target):
    return 0.5

def same(reply, target):
    return reply == target

def seven(reply, target):
    return 7

def broken(reply, target):
    return reply[99]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


def own(name, target="5"):
    return Task(id="t", input="?", target=target, scorer=f"own:{name}")


def test_a_scorer_of_ones_own_lies_beside_the_inventory(folder):
    assert score(own("half"), "5", folder=folder) == 0.5
    assert score(own("same"), "5", folder=folder) == 1.0
    assert score(own("half", None), "5", folder=folder) == 0.5
    assert score(own("half"), None, folder=folder) == 0.0


@pytest.mark.parametrize(
    ("name", "message"),
    [("seven", "returned 7"), ("broken", "failed on task 't': IndexError"), ("absent", "AttributeError")],
)
def test_a_broken_scorer_is_named(folder, name, message):
    with pytest.raises(InputError, match=f"'own:{name}' {message}|{message}"):
        score(own(name), "5", folder=folder)


def test_a_scorer_from_elsewhere_needs_trust(folder):
    task = Task(id="t", input="?", target="5", scorer="operator:eq")
    with pytest.raises(Untrusted, match="scorer 'operator:eq'"):
        score(task, "5", folder=folder)
    assert score(task, "5", folder=folder, trust=True) == 1.0


def test_two_folders_may_have_scorers_of_the_same_name(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "own.py").write_text("def half(reply, target): return 0.25")
    assert score(own("half"), "5", folder=folder) == 0.5
    assert score(own("half"), "5", folder=other) == 0.25


@pytest.mark.parametrize(
    "reply", ["**-5**", r"\boxed{-5}", "`-5`", "[-5]", '"-5"', "≈-5", ">-5", "–5", "-$5", "it is -€5"]
)
def test_a_number_is_not_in_what_it_is_the_opposite_of(reply):
    assert contains(reply, "5") == numeric(reply, "5") == 0
    assert numeric(reply, "-5") == 1


@pytest.mark.parametrize("reply", ["10-5", "x-5", "(a)-5", "pages 3–5", "2^-5", "$5", "=5"])
def test_a_number_is_in_what_it_is_taken_from(reply):
    assert contains(reply, "5") == 1


@pytest.mark.parametrize(("reply", "target", "right"), [("9.1e-31", "1.6e-19", 0), ("0", "1e-10", 0), ("0.0", "0", 1)])
def test_small_numbers_are_as_different_as_large_ones(reply, target, right):
    assert numeric(reply, target) == right
