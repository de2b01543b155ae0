"""The one adapter of OpenSpiel's games: a table where replies become moves and moves become rewards.

Source:
    Lanctot et al. 2019, "OpenSpiel", arXiv:1908.09453; package `open-spiel`, whose C++ games are used.
    Texts and rewards follow MARSHAL, arXiv:2510.15414.
    Deviation: a seat's rewards are differences of OpenSpiel's returns, as its Hanabi says a reward twice when a card is
    drawn after it. The words of the texts are ours, in MARSHAL's blocks and order; what deviates in replies and rewards
    is told in `orchestra.environments.rules`.
"""

import hashlib
import random
from collections.abc import Callable
from typing import Any

from orchestra.environments.games.connect_four import ConnectFour
from orchestra.environments.games.hanabi import Hanabi
from orchestra.environments.games.kuhn_poker import KuhnPoker
from orchestra.environments.games.leduc_poker import LeducPoker
from orchestra.environments.games.spiel import pyspiel
from orchestra.environments.games.texts import Generic, State, Texts
from orchestra.environments.games.tic_tac_toe import TicTacToe
from orchestra.environments.protocol import Nature, Outcome
from orchestra.environments.rules import Rules
from orchestra.errors import InputError
from orchestra.plugins import closest

KEY_DIGITS = 16
"""Hexadecimal digits of a state's key."""


class SpielTable:
    """One game under way.

    Args:
        environment: whose game it is.
        seed: of everything that is drawn.
    """

    def __init__(self, environment: "SpielEnvironment", seed: int) -> None:
        self._environment = environment
        self._rng = random.Random(seed)
        self.state: State = environment.game.new_initial_state()
        self._over = False
        self._past: list[tuple[int, str]] = []
        """Of every move so far: whose it was, and what others are shown of it."""
        self._seen = [0] * environment.nature.seats
        """How many of them each seat knows of: those up to its own last one."""
        self._returns = [0.0] * environment.nature.seats
        self._settle()

    @property
    def texts(self) -> Texts:
        """The words of its game."""
        return self._environment.texts

    @property
    def to_move(self) -> int | None:
        """The seat whose turn it is; `None` means the game is over."""
        return None if self._over or self.state.is_terminal() else int(self.state.current_player())

    @property
    def returns(self) -> tuple[float, ...]:
        """What each seat has come to; a seat that broke the rules has the least there is."""
        return tuple(self._returns)

    def opening(self, seat: int) -> str:
        """Rules, who the seat is, and how to answer."""
        texts, rules = self._environment.texts, self._environment.rules
        numbered = "\n".join(f"{number}. {line}" for number, line in enumerate(texts.rules(), 1))
        think = "Think first, then answer. " if rules.thinking else ""
        lost = "ends the game and loses all points" if self._environment.nature.cooperative else "loses the game"
        return (
            f"GAME RULES:\n{numbered}\n\nPLAYER INFORMATION:\n{texts.player(seat)}\n\nRESPONSE INSTRUCTIONS:\n"
            f"{think}Choose exactly one of the legal actions and copy it as it is listed, with its angle brackets. "
            f"Reply in this form, with nothing before or after it: {rules.form}\n"
            f"Keep it short. A reply of any other form, or an action that is not legal, {lost} at once."
        )

    def observation(self, seat: int) -> str:
        """The others' moves since this seat's last one, then the state and the legal actions."""
        blocks = []
        for number, (mover, shown) in enumerate(self._past[self._seen[seat] :], self._seen[seat] + 1):
            if mover != seat and shown:
                blocks.append(f"Information of Turn-{number} (player {mover}):\n{shown}")
        state = self._environment.texts.state(self.state, seat)
        number = len(self._past) + 1
        blocks.append(
            f"Information of Turn-{number} (you):\nGAME STATE:\n{state}\nLEGAL ACTIONS:\n{', '.join(self.legal())}"
        )
        return "\n\n".join(blocks)

    def legal(self) -> tuple[str, ...]:
        """Every move that may be made now."""
        return tuple(self._legal())

    def state_key(self, seat: int) -> str:
        """A digest of what `seat` knows."""
        known = f"{self._environment.nature.name}\n{seat}\n{self._environment.texts.key(self.state, seat)}"
        return hashlib.sha256(known.encode()).hexdigest()[:KEY_DIGITS]

    def answer(self, action: str) -> str:
        """A reply that makes the move `action`."""
        return self._environment.rules.written(action)

    def reply(self, text: str | None, tokens: int | None = None) -> Outcome:
        """Take a reply; one that is no move ends the game."""
        rules, seat = self._environment.rules, self.to_move
        assert seat is not None, "the game is over"
        action = rules.read(text)
        if action is None:
            return self._violated(seat, f"the reply is not of the form {rules.form}")
        legal = self._legal()
        if action not in legal:
            return self._violated(seat, f"{action!r} is not among the legal actions {', '.join(legal)}")
        rewards = self.apply(legal[action])
        rewards[seat] += rules.format_bonus + rules.length_reward(tokens)
        return Outcome(action=action, rewards=tuple(rewards))

    def apply(self, action: int) -> list[float]:
        """Make a move by OpenSpiel's number; what each seat earns by it from the game."""
        rules, seat, before = self._environment.rules, int(self.state.current_player()), self._returns
        self._past.append((seat, self._shown(seat, action)))
        self._seen[seat] = len(self._past)
        self.state.apply_action(action)
        self._settle()
        self._returns = self._come_to()
        if self.state.is_terminal() and self._environment.texts.draws and not any(self._returns):
            return [rules.draw] * len(before)
        return [rules.scale * (now - was) for now, was in zip(self._returns, before, strict=True)]

    def _legal(self) -> dict[str, int]:
        seat = self.to_move
        if seat is None:
            return {}
        texts = self._environment.texts
        return {texts.action(self.state, seat, action): action for action in self.state.legal_actions()}

    def _shown(self, seat: int, action: int) -> str:
        """What others are shown of a move that is about to be made; empty means nothing."""
        history, texts = self._environment.history, self._environment.texts
        chosen = f"CHOSEN ACTION:\n{texts.action(self.state, seat, action)}"
        if history == "full":
            listed = ", ".join(self.legal())
            return f"GAME STATE:\n{texts.state(self.state, seat)}\nLEGAL ACTIONS:\n{listed}\n{chosen}"
        return chosen if history == "actions" else ""

    def _settle(self) -> None:
        """Draw whatever chance decides, until somebody has to."""
        while not self.state.is_terminal() and self.state.is_chance_node():
            actions, weights = zip(*self.state.chance_outcomes(), strict=True)
            self.state.apply_action(self._rng.choices(actions, weights)[0])

    def _come_to(self) -> list[float]:
        """What each seat has come to by now.

        Not the sum of OpenSpiel's rewards: Hanabi repeats the reward of a move when a card is drawn after it.
        """
        if not (self._environment.pays_as_it_goes or self.state.is_terminal()):
            return [0.0] * self._environment.nature.seats
        return [float(total) for total in self.state.returns()]

    def _violated(self, seat: int, why: str) -> Outcome:
        """The game ends: the offender loses its stake and the penalty, and nobody else gains by it."""
        rules, nature = self._environment.rules, self._environment.nature
        rewards = [0.0] * nature.seats
        rewards[seat] = -rules.scale * self._environment.texts.stake(self.state, seat) - rules.violation
        self._over = True
        if nature.cooperative:
            self._returns = [nature.low] * nature.seats
        else:
            self._returns[seat] = nature.low
        return Outcome(action=None, rewards=tuple(rewards), violation=why)


class SpielEnvironment:
    """A game of OpenSpiel with words.

    Args:
        name: as it is opened.
        game: of OpenSpiel.
        texts: its words.
        rules: how replies are read and rewarded.
    """

    def __init__(self, name: str, game: Any, texts: Texts, rules: Rules) -> None:
        kind = game.get_type()
        if kind.dynamics != pyspiel.GameType.Dynamics.SEQUENTIAL:
            raise InputError(
                f"players of {name!r} do not take turns; where several move at once, load it as "
                f"turn_based_simultaneous_game(game=...)"
            )
        if kind.chance_mode == pyspiel.GameType.ChanceMode.SAMPLED_STOCHASTIC:
            raise InputError(f"{name!r} draws by itself, so that no seed repeats a game; play another")
        self.game, self.texts, self.rules = game, texts, rules
        self.history = rules.history or texts.history
        """What a seat is shown of others' moves."""
        self.pays_as_it_goes = kind.reward_model == pyspiel.GameType.RewardModel.REWARDS
        """Whether there are rewards before the end."""
        if self.history == "full" and kind.information != pyspiel.GameType.Information.PERFECT_INFORMATION:
            raise InputError(f"history='full' would show the others' secrets in {name!r}; leave it out")
        self.nature = Nature(
            name=name,
            seats=int(game.num_players()),
            low=float(game.min_utility()),
            high=float(game.max_utility()),
            zero_sum=kind.utility == pyspiel.GameType.Utility.ZERO_SUM,
            cooperative=kind.utility == pyspiel.GameType.Utility.IDENTICAL,
            deterministic=kind.chance_mode == pyspiel.GameType.ChanceMode.DETERMINISTIC,
            steps=int(game.max_game_length()),
            draws=texts.draws,
        )
        self.role = f"You are an agent that makes the best decisions to win a game of {texts.title}."

    def begin(self, seed: int) -> SpielTable:
        """A new game; the same seed draws the same cards."""
        return SpielTable(self, seed)


def _opener(name: str, game: str, texts: Callable[[], Texts]) -> Callable[..., SpielEnvironment]:
    def opened(**options: Any) -> SpielEnvironment:
        return SpielEnvironment(name, pyspiel.load_game(game), texts(), Rules(**options))

    opened.__doc__ = f"{name}, with the options of `orchestra.environments.Rules`."
    return opened


def _hanabi(**sizes: int) -> tuple[str, Callable[[], Hanabi]]:
    game = (
        f"hanabi(players=2,colors={sizes['colours']},ranks={sizes['ranks']},hand_size={sizes['hand']},"
        f"max_information_tokens={sizes['information']},max_life_tokens={sizes['lives']})"
    )
    return game, lambda: Hanabi(**sizes)


tic_tac_toe = _opener("tic-tac-toe", "tic_tac_toe", TicTacToe)
kuhn_poker = _opener("kuhn-poker", "kuhn_poker", KuhnPoker)
connect_four = _opener("connect-four", "connect_four", ConnectFour)
leduc_poker = _opener("leduc-poker", "leduc_poker", LeducPoker)
mini_hanabi = _opener("mini-hanabi", *_hanabi(colours=2, ranks=2, hand=3, information=3, lives=3))
simple_hanabi = _opener("simple-hanabi", *_hanabi(colours=3, ranks=2, hand=5, information=8, lives=3))


def openspiel(game: str, **options: Any) -> SpielEnvironment:
    """Any game of OpenSpiel, in generic words: `openspiel:breakthrough(rows=5,columns=5)`.

    Raises:
        InputError: OpenSpiel has no such game, or it cannot be played in words.
    """
    names = [kind.short_name for kind in pyspiel.registered_games()]
    wanted = game.partition("(")[0].strip()
    if wanted not in names:
        raise InputError(f"OpenSpiel has no game {wanted!r}; {closest(wanted, names)}")
    try:
        loaded = pyspiel.load_game(game)
        loaded.new_initial_state().legal_actions()
    except (pyspiel.SpielError, IndexError) as cause:
        raise InputError(f"OpenSpiel does not load {game!r}: {cause}") from cause
    kind = loaded.get_type()
    if not (kind.provides_observation_string or kind.provides_information_state_string):
        raise InputError(f"{wanted!r} shows its players no text; write a module of texts for it")
    return SpielEnvironment(f"openspiel:{game}", loaded, Generic(loaded), Rules(**options))
