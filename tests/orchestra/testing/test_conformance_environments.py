import pickle
from dataclasses import replace

import pytest

from orchestra.environments import environment
from orchestra.plugins import names
from orchestra.testing import NotConforming, check_environment
from orchestra.testing.conformance_environments import PROMISES

GENERIC = (
    "openspiel:breakthrough(rows=5,columns=5)",
    "openspiel:liars_dice",
    "openspiel:leduc_poker",
    "openspiel:phantom_ttt",
    "openspiel:pig(winscore=12)",
    "openspiel:tiny_hanabi",
    "openspiel:kuhn_poker(players=3)",
    "openspiel:turn_based_simultaneous_game(game=goofspiel(num_cards=3))",
)
"""Of perfect information and with secrets, with chance and without, for one, two and three, one after another."""
OPENED = {"openspiel": GENERIC, "reasoning-gym": ("reasoning-gym:chain_sum", "reasoning-gym:propositional_logic")}
"""What is opened of plug-ins that are many environments."""
INSTALLED = [opened for name in names("orchestra.environments") for opened in OPENED.get(name, (name,))]
PLAIN = {"format_bonus": 0.0, "length": "none"}


@pytest.mark.parametrize("name", INSTALLED)
def test_every_installed_environment_keeps_its_contract(name):
    check_environment(environment(name, **PLAIN, draw=0.0), games=6, bonuses=False)


@pytest.mark.parametrize("name", ["kuhn-poker", "mini-hanabi", "reasoning-gym:chain_sum"])
def test_it_keeps_it_with_bonuses_and_thoughts_too(name):
    check_environment(environment(name, thinking=True, violation=0.0), games=6)


class Double:
    """An environment whose tables are tampered with."""

    def __init__(self, game="kuhn-poker", *, table=None, **nature):
        self._real = environment(game, **PLAIN)
        self._table, self.role = table or (lambda real: real), self._real.role
        self.nature = replace(self._real.nature, **nature)

    def begin(self, seed):
        return self._table(self._real.begin(seed))


class Table:
    """A table that passes everything on; doubles change one thing."""

    def __init__(self, real):
        self.real = real

    to_move = property(lambda self: self.real.to_move)
    returns = property(lambda self: self.real.returns)

    def __getattr__(self, name):
        return getattr(self.real, name)

    def opening(self, seat):
        return self.real.opening(seat)

    def observation(self, seat):
        return self.real.observation(seat)

    def legal(self):
        return self.real.legal()

    def state_key(self, seat):
        return self.real.state_key(seat)

    def answer(self, action):
        return self.real.answer(action)

    def reply(self, text, tokens=None):
        return self.real.reply(text, tokens)


class ShowsTheOthersCard(Table):
    def observation(self, seat):
        return f"{self.real.observation(seat)}\nYou saw {self.real.state.history()[1 - seat]}."


class KeysTheOthersCard(Table):
    def state_key(self, seat):
        return f"{self.real.state_key(seat)}{self.real.state.history()[1 - seat]}"


class KeysTooLittle(Table):
    def state_key(self, seat):
        return "a state"


class CountsItsCalls(Table):
    calls = 0

    def observation(self, seat):
        self.calls += 1
        return f"{self.calls}: {self.real.observation(seat)}"


class HasNoMoves(Table):
    def legal(self):
        return ()


class ListsMovesAfterTheEnd(Table):
    def legal(self):
        return self.real.legal() or ("<PASS>",)


class ListsAMoveTwice(Table):
    def legal(self):
        return (*self.real.legal(), *self.real.legal())


class RefusesItsOwnAnswers(Table):
    def answer(self, action):
        return f"{self.real.answer(action)}."


class MakesAnotherMove(Table):
    def reply(self, text, tokens=None):
        return replace(self.real.reply(text, tokens), action="<FOLD>")


class TakesProse(Table):
    def reply(self, text, tokens=None):
        return self.real.reply(text if text and text.startswith("<") else "<answer><PASS></answer>", tokens)


class TakesAnyMove(Table):
    def reply(self, text, tokens=None):
        return self.real.reply(text.replace("no <PASS> or <BET>", "<PASS>") if text else text, tokens)


class GoesOnAfterAViolation(Table):
    @property
    def to_move(self):
        return self.real.to_move if self.real.to_move is not None else 0


class RewardsViolations(Table):
    def reply(self, text, tokens=None):
        outcome = self.real.reply(text, tokens)
        return outcome if outcome.valid else replace(outcome, rewards=(1.0, 1.0))


class RewardsTwice(Table):
    """As Hanabi would with OpenSpiel's own rewards."""

    def reply(self, text, tokens=None):
        outcome = self.real.reply(text, tokens)
        return replace(outcome, rewards=tuple(2 * reward for reward in outcome.rewards))


class RewardsOneSeat(Table):
    def reply(self, text, tokens=None):
        outcome = self.real.reply(text, tokens)
        return replace(outcome, rewards=outcome.rewards[:1])


class DrawsByItself(Table):
    draws = iter(range(10**6))

    def observation(self, seat):
        return f"{self.real.observation(seat)}\nIt is draw {next(self.draws)}."


class ForgivesViolations(Table):
    @property
    def returns(self):
        return (0.0, 0.0)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (ShowsTheOthersCard, "told different things in states with the same keys"),
        (KeysTheOthersCard, "told the same in states with different keys"),
        (KeysTooLittle, "told different things in states with the same keys"),
        (CountsItsCalls, "asked twice"),
        (HasNoMoves, "no legal move"),
        (ListsMovesAfterTheEnd, "legal moves after the end"),
        (ListsAMoveTwice, "listed twice"),
        (RefusesItsOwnAnswers, "is refused"),
        (MakesAnotherMove, "made the move '<FOLD>'"),
        (TakesProse, "prose is taken as the move"),
        (TakesAnyMove, "a move that is not legal is taken as the move"),
        (GoesOnAfterAViolation, "goes on after"),
        (RewardsViolations, "somebody gains by"),
        (RewardsTwice, "rewards add up to"),
        (RewardsOneSeat, "1 rewards for 2 seats"),
        (DrawsByItself, "the same moves gave another told"),
        (ForgivesViolations, "above the least there is"),
    ],
)
def test_a_broken_promise_of_a_table_is_named(table, said):
    with pytest.raises(NotConforming, match=said):
        check_environment(Double(table=table), games=6, bonuses=False)


@pytest.mark.parametrize(
    ("nature", "said"),
    [
        ({"low": -1.0}, "are outside"),
        ({"high": 1.0}, "are outside"),
        ({"low": float("-inf")}, "said to be in"),
        ({"cooperative": True}, "said to be cooperative"),
        ({"deterministic": True}, "nothing is said to be drawn"),
        ({"steps": 1}, "goes on after 1 moves"),
        ({"seats": 3}, "returns for 3 seats"),
        ({"seats": 0}, "0 seats"),
        ({"name": ""}, "no name"),
    ],
)
def test_a_nature_that_is_not_so_is_named(nature, said):
    with pytest.raises(NotConforming, match=said):
        check_environment(Double(**nature), games=6)


def test_a_zero_sum_that_is_none_is_named():
    with pytest.raises(NotConforming, match="said to be zero-sum"):
        check_environment(Double("mini-hanabi", zero_sum=True))


def test_everything_that_is_broken_is_said_at_once_and_survives_pickling():
    with pytest.raises(NotConforming) as caught:
        check_environment(Double(table=RewardsTwice, high=1.0, steps=1), bonuses=False)
    assert len(caught.value.broken) >= 2
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.broken, str(again)) == (caught.value.broken, str(caught.value))
    assert "orchestra.environments.protocol" in str(again)


def test_a_double_that_changes_nothing_conforms():
    check_environment(Double(table=Table), games=6, bonuses=False)


def test_every_promise_of_the_module_is_in_its_table():
    from inspect import isgeneratorfunction, signature

    from orchestra.testing import conformance_environments as module

    promises = {
        value
        for value in vars(module).values()
        if isgeneratorfunction(value) and list(signature(value).parameters) == ["trial"]
    }
    assert promises == set(PROMISES)
