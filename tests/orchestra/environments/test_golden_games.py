import pytest

from orchestra.environments import environment
from orchestra.plugins import names

FILES = (
    "connect-four",
    "kuhn-poker",
    "kuhn-poker-violation",
    "leduc-poker",
    "mini-hanabi",
    "openspiel-breakthrough",
    "openspiel-liars-dice",
    "reasoning-gym",
    "simple-hanabi",
    "tic-tac-toe",
)


@pytest.mark.parametrize("name", FILES)
def test_a_whole_game_reads_as_it_always_did(name, playthroughs, request):
    golden = request.config.rootpath / "tests/golden/environments" / f"{name}.txt"
    assert playthroughs[name].text() == golden.read_text(encoding="utf-8")


def test_every_environment_has_a_golden_game(playthroughs, request):
    kept = {path.stem for path in (request.config.rootpath / "tests/golden/environments").glob("*.txt")}
    assert set(FILES) == set(playthroughs) == kept
    assert {game.name.partition(":")[0] for game in playthroughs.values()} == set(names("orchestra.environments"))


def test_golden_games_end_in_every_way(playthroughs):
    whole = "\n".join(playthrough.text() for playthrough in playthroughs.values())
    assert environment("kuhn-poker").nature.name in whole
    assert "not of the form" in whole
    assert "rewards 0.15, 0.1" in whole  # a draw
    assert "rewards -1, -0.95" in whole  # the last life is lost, and all points with it
