"""Whole games as text, and ways to play them.

The texts in `tests/golden/environments` are games as their players read them. After a change that is meant, write them
anew with `.venv/bin/python tests/orchestra/environments/conftest.py` and read what `git diff` shows.
"""

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestra.environments import environment
from orchestra.execution import Runtime, Settings
from orchestra.models.protocol import Capabilities, Model, Request
from orchestra.testing import ScriptedModel
from orchestra.traces.store import Store

GOLDEN = Path(__file__).resolve().parents[2] / "golden/environments"


@dataclass(frozen=True)
class Playthrough:
    """One game of random moves."""

    name: str
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)
    breaks_at: int | None = None
    """Step at which a seat says no move; `None` plays to the end."""

    def text(self) -> str:
        """The whole game."""
        place, rng = environment(self.name, **self.options), random.Random(self.seed)
        table, told = place.begin(self.seed), set()
        lines = [f"{self.name} {dict(self.options)} seed {self.seed}", "", "SYSTEM", place.role]
        step = 0
        while (seat := table.to_move) is not None:
            news = [*([] if seat in told else [table.opening(seat)]), table.observation(seat)]
            told.add(seat)
            reply = table.answer(rng.choice(table.legal())) if step != self.breaks_at else "I would rather not."
            lines += ["", f"----- step {step}: seat {seat} is told", "\n\n".join(news), ""]
            lines += [f"----- seat {seat} knows {table.state_key(seat)} and says", reply]
            outcome = table.reply(reply, 20)
            earned = ", ".join(f"{reward:g}" for reward in outcome.rewards)
            lines += ["", f"----- rewards {earned}" + (f": {outcome.violation}" if outcome.violation else "")]
            step += 1
        return "\n".join([*lines, "", f"----- the end: returns {table.returns}", ""])


PLAYTHROUGHS = {
    "connect-four": Playthrough("connect-four", 9),
    "kuhn-poker": Playthrough("kuhn-poker", 10),
    "kuhn-poker-violation": Playthrough("kuhn-poker", 1, {"thinking": True}, breaks_at=1),
    "leduc-poker": Playthrough("leduc-poker", 29),
    "mini-hanabi": Playthrough("mini-hanabi", 277),
    "openspiel-breakthrough": Playthrough("openspiel:breakthrough(rows=4,columns=3)", 16),
    "openspiel-liars-dice": Playthrough("openspiel:liars_dice", 4),
    "reasoning-gym": Playthrough("reasoning-gym:chain_sum", 1, {"thinking": True}),
    "simple-hanabi": Playthrough("simple-hanabi", 5),
    "tic-tac-toe": Playthrough("tic-tac-toe", 7),
}
"""Golden games by file."""


def rewrite() -> None:
    """Write every golden game anew."""
    for name, game in PLAYTHROUGHS.items():
        (GOLDEN / f"{name}.txt").write_text(game.text(), encoding="utf-8")


@pytest.fixture(scope="session")
def playthroughs() -> Mapping[str, Playthrough]:
    """Golden games by file."""
    return PLAYTHROUGHS


ALL = Capabilities(stream=True, token_ids=True, logprobs=True, seed=True)

Opened = Callable[..., AbstractAsyncContextManager[tuple[Runtime, Any]]]


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """Opens runs over one store; a model that is given answers, or a scripted one with token ids."""

    @asynccontextmanager
    async def opening(
        answer: Any, *, cap_nano: int | None = None, settings: Mapping[str, Any] | None = None, **model: Any
    ) -> AsyncIterator[tuple[Runtime, Any]]:
        scripted = answer if isinstance(answer, Model) else ScriptedModel(answer, **{"capabilities": ALL, **model})
        chosen = Settings(model=scripted.name, **{"use_cache": False, **(settings or {})})
        with Store.open(tmp_path / "store.sqlite") as store:
            given = {scripted.name: scripted}
            async with Runtime.opened(
                "evaluate", store=store, settings=chosen, cap_nano=cap_nano, models=given
            ) as runtime:
                yield runtime, scripted

    return opening


def listed(request: Request) -> Sequence[str]:
    """The legal actions a player was shown last."""
    return request.messages[-1].content.rpartition("LEGAL ACTIONS:\n")[2].split(", ")


@pytest.fixture(scope="session")
def says() -> Callable[..., Callable[[Request], str]]:
    """Makes players that always say the first of some moves that is legal, or else the first there is."""

    def player(*wanted: str) -> Callable[[Request], str]:
        def answer(request: Request) -> str:
            legal = listed(request)
            return f"<answer>{next((move for move in wanted if move in legal), legal[0])}</answer>"

        return answer

    return player


if __name__ == "__main__":
    rewrite()
