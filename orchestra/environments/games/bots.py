"""OpenSpiel's own players at a seat: tree search, and the average policy of regret minimisation.

Source:
    Kocsis & Szepesvári 2006 (UCT) as OpenSpiel's C++ `MCTSBot` has it, with MARSHAL's settings: exploration constant 2,
    10 rollouts a leaf. Zinkevich et al. 2007 (CFR) as its C++ `CFRSolver`, 1,000 iterations. The C++ ones are ten times
    faster than its Python ones.
    Deviation: Leduc is played by this average policy too, where the paper says a Nash equilibrium and not whose.
"""

import functools
import random
from typing import Any

from orchestra.environments.games.openspiel import SpielEnvironment, SpielTable
from orchestra.environments.games.spiel import pyspiel
from orchestra.environments.protocol import Environment, Table
from orchestra.errors import InputError

EXPLORATION, ROLLOUTS = 2.0, 10
SIMULATIONS, ITERATIONS = 100, 1000
SOLVED = ("kuhn_poker", "leduc_poker")
"""Games that are small enough to solve, as OpenSpiel calls them."""


class TreeSearch:
    """Monte-Carlo tree search.

    Args:
        game: of OpenSpiel, of perfect information.
        simulations: of one move.
    """

    def __init__(self, game: Any, simulations: int) -> None:
        self.name = f"mcts:{simulations}"
        self._game, self._simulations = game, simulations

    def choose(self, table: Table, rng: random.Random) -> str:
        """The move it finds best."""
        state, texts = _state_of(table)
        seed = rng.randrange(2**31)
        evaluator = pyspiel.RandomRolloutEvaluator(ROLLOUTS, seed)
        bot = pyspiel.MCTSBot(self._game, evaluator, EXPLORATION, self._simulations, 1000, True, seed, False)
        return str(texts.action(state, state.current_player(), bot.step(state)))


class AveragePolicy:
    """A fixed policy, drawn from.

    Args:
        name: as it was asked for.
        policy: of OpenSpiel.
    """

    def __init__(self, name: str, policy: Any) -> None:
        self.name, self.policy = name, policy

    def choose(self, table: Table, rng: random.Random) -> str:
        """A move drawn from it."""
        state, texts = _state_of(table)
        moves, weights = zip(*self.policy.action_probabilities(state).items(), strict=True)
        return str(texts.action(state, state.current_player(), rng.choices(moves, weights)[0]))


def mcts(environment: Environment, simulations: int | None) -> TreeSearch:
    """Tree search for games of perfect information.

    Raises:
        InputError: it is none.
    """
    game = _game_of(environment, "mcts")
    if game.get_type().information != pyspiel.GameType.Information.PERFECT_INFORMATION:
        raise InputError(
            f"mcts would look at the others' secrets in {environment.nature.name!r}; play it against random or cfr"
        )
    if simulations == 0:
        raise InputError("a tree search needs at least one simulation a move")
    return TreeSearch(game, SIMULATIONS if simulations is None else simulations)


def cfr(environment: Environment, iterations: int | None) -> AveragePolicy:
    """The average policy of regret minimisation, for small games.

    Raises:
        InputError: the game is none of them, or no iteration is asked for.
    """
    game, rounds = _game_of(environment, "cfr"), ITERATIONS if iterations is None else iterations
    if rounds == 0:
        raise InputError("regret minimisation needs at least one iteration")
    if game.get_type().short_name not in SOLVED or game.num_players() != 2:
        raise InputError(
            f"cfr solves small games of hidden cards (kuhn-poker, leduc-poker), not {environment.nature.name!r}; "
            f"play it against random or mcts"
        )
    return AveragePolicy(f"cfr:{rounds}", _solved(str(game), rounds))


@functools.lru_cache(maxsize=8)
def _solved(game: str, iterations: int) -> Any:
    solver = pyspiel.CFRSolver(pyspiel.load_game(game))
    for _ in range(iterations):
        solver.evaluate_and_update_policy()
    return solver.tabular_average_policy()


def _game_of(environment: Environment, who: str) -> Any:
    if not isinstance(environment, SpielEnvironment):
        raise InputError(f"{who} plays OpenSpiel's games, and {environment.nature.name!r} is none")
    return environment.game


def _state_of(table: Table) -> tuple[Any, Any]:
    assert isinstance(table, SpielTable), "an opponent is made for one environment"
    return table.state, table.texts
