"""Limits on the command line, against a server in another process that counts who is there at once."""

import pytest

from graphs.motifs import MOTIFS
from graphs.serialisation import write
from orchestra.cli import execute, options
from orchestra.models.limits import Limits
from orchestra.testing import Answer, FaultyServer


def test_what_is_given_on_the_command_line_holds_for_every_model():
    limits = options.stated_limits("concurrency=4, tpm=900")
    assert limits == Limits(concurrency=4, tokens_per_minute=900)
    assert options.RunOptions(limits=limits).settings().limits == {"*": limits}
    assert options.RunOptions().settings().limits == {}


@pytest.mark.parametrize(("words", "most"), [([], 8), (["--limits", "concurrency=2"], 2)])
def test_a_run_keeps_to_its_limit(words, most, tmp_path, capsys):
    write(MOTIFS["vote"]([f"Member {number}." for number in range(8)]), tmp_path / "team.yaml")
    with FaultyServer([Answer(delay_seconds=0.2)]).in_process() as server:
        model = f"vllm/loopback@{server.url.removesuffix('/v1')}?token_ids=false"
        store = str(tmp_path / "store.sqlite")
        assert execute(["run", str(tmp_path / "team.yaml"), "go", "--model", model, "--store", store, *words]) == 0
        counts = server.counts()
    assert capsys.readouterr().out == "hello\n"
    assert (counts.requests, counts.running_most) == (8, most)


@pytest.mark.parametrize("said", ["concurrency=0", "calls=3", "8", "rpm=many", ""])
def test_limits_that_say_nothing_are_refused_with_how_to_write_them(said, capsys):
    assert execute(["run", "team.yaml", "go", "--limits", said]) == 2
    assert "concurrency=8,rpm=60,tpm=90000" in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize("words", [["--price", "0,0", "--max-cost", "0"], ["--price", "1000000,1000000"]])
def test_a_cap_never_stops_what_costs_nothing_and_no_cap_stops_nothing(words, tmp_path, capsys):
    write(MOTIFS["chain"](["You answer.", "You check."]), tmp_path / "team.yaml")
    with FaultyServer([Answer()]).in_process() as server:
        model = f"vllm/loopback@{server.url.removesuffix('/v1')}?token_ids=false"
        store = str(tmp_path / "store.sqlite")
        assert execute(["run", str(tmp_path / "team.yaml"), "go", "--model", model, "--store", store, *words]) == 0
    assert capsys.readouterr().out == "hello\n"
