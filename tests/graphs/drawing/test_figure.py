import struct
import subprocess
import sys
import xml.etree.ElementTree

import pytest

from graphs import MOTIFS, AgentGraph, AgentNode, Channel, InvalidFile, RouterNode, Tool, ToolNode, VoteNode
from graphs.drawing import figure

EVERYTHING = AgentGraph(
    name="Everything " * 20,
    nodes=[
        ToolNode(id="calculator", price_usd="3", tool=Tool(name="calc", call="m:f")),
        AgentNode(id="a-very-long.name_of-an-agent-that-goes-on-and-on-and-on-and-on", price_usd="0.5", model="x/y"),
        AgentNode(id="think", tools=(Tool(name="calc", call="m:f"),)),
        RouterNode(id="route"),
        VoteNode(id="count"),
    ],
    channels=[
        Channel(source=s, target=t)
        for s, t in [
            ("calculator", "think"),
            ("a-very-long.name_of-an-agent-that-goes-on-and-on-and-on-and-on", "think"),
            ("think", "think"),
            ("think", "route"),
            ("route", "think"),
            ("route", "count"),
            ("think", "count"),
        ]
    ],
    output="count",
    rounds=2,
)


def size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


@pytest.mark.parametrize("motif", sorted(set(MOTIFS) - {"solo"}))
def test_every_motif_of_thirty_is_drawn(motif, tmp_path):
    figure(MOTIFS[motif]([""] * 29), tmp_path / "team.png")
    width, height = size(tmp_path / "team.png")
    assert width > 600
    assert height > 300


def test_one_node_is_a_picture_too(tmp_path):
    figure(MOTIFS["solo"]([]), tmp_path / "team.png")
    assert size(tmp_path / "team.png")[0] > 600


def test_all_that_a_team_can_hold_is_drawn_and_its_prices_shown(tmp_path):
    figure(EVERYTHING, tmp_path / "team.svg")
    text = (tmp_path / "team.svg").read_text()
    assert xml.etree.ElementTree.fromstring(text).tag.endswith("svg")
    assert "<!-- $3 -->" in text  # matplotlib writes each text beside its outline
    assert "<!-- $0.50 -->" in text


def test_the_same_team_gives_the_same_file(tmp_path):
    for name in ("a.svg", "b.svg", "a.png", "b.png"):
        figure(EVERYTHING, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_picture_has_a_suffix_that_says_which_and_a_folder_that_exists(tmp_path):
    with pytest.raises(InvalidFile, match=r"a picture ends in \.png or \.svg"):
        figure(EVERYTHING, tmp_path / "team.gif")
    with pytest.raises(InvalidFile, match="cannot be written"):
        figure(EVERYTHING, tmp_path / "none" / "team.png")


def test_drawing_uses_no_window_and_no_global_figure(tmp_path):
    code = (
        "import sys; from graphs import MOTIFS; from graphs.drawing import figure; "
        f"figure(MOTIFS['chain'](['a']), {str(tmp_path / 'a.png')!r}); print('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("name", [r"a $\foo$ b", "x_$^$", "bell \u0007 and \u202e"])
def test_any_name_is_drawn_as_it_is_written(name, tmp_path):
    graph = AgentGraph(name=name, nodes=(AgentNode(id="a", model="p/$a_$"),), output="a")
    for suffix in ("png", "svg"):
        figure(graph, tmp_path / f"team.{suffix}")
    xml.etree.ElementTree.parse(tmp_path / "team.svg")
