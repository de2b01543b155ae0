from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from graphs import MOTIFS, AgentGraph, InvalidFile, InvalidGraph, write
from graphs.drawing import dot, mermaid
from orchestra.cli.graph import graph_command

TEAM = MOTIFS["star"](["add", "check"])


@pytest.fixture
def team(tmp_path) -> Path:
    write(TEAM, tmp_path / "team.yaml")
    return tmp_path / "team.yaml"


def answer(*arguments):
    app = typer.Typer()
    app.command()(graph_command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_team_is_drawn_as_mermaid_unless_told_otherwise(team):
    assert answer(team).stdout == mermaid(TEAM)
    assert answer(team, "--format", "dot").stdout == dot(TEAM)


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.dot", b"digraph")])
def test_the_suffix_of_the_file_says_how_to_draw(name, begins, team, tmp_path):
    result = answer(team, "--out", tmp_path / name)
    assert (result.exit_code, result.stdout) == (0, "")
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_a_picture_needs_a_file_of_its_kind(team, tmp_path):
    for arguments in (["--format", "png"], ["--format", "svg", "--out", tmp_path / "a.png"]):
        with pytest.raises(InvalidFile, match=r"writes a (png|svg) file; say --out team"):
            raise answer(team, *arguments).exception


def test_a_missing_file_and_a_team_that_cannot_run_are_told(tmp_path):
    assert isinstance(answer(tmp_path / "none.yaml").exception, InvalidFile)
    write(AgentGraph(output="a"), tmp_path / "empty.yaml")
    assert isinstance(answer(tmp_path / "empty.yaml").exception, InvalidGraph)
