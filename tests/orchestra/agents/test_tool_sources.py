import sys

import pytest

from graphs import Tool
from orchestra.agents.tool_sources import source_of
from orchestra.agents.tools import check_trusted, source_hash
from orchestra.errors import UnknownPlugin, Untrusted


def tool(call):
    return Tool(name="t", call=call)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tools.py").write_text("def run(text): return text\n")
    return tmp_path


@pytest.fixture
def installed(tmp_path_factory, monkeypatch):
    """A distribution with one plug-in, installed for this test."""
    place = tmp_path_factory.mktemp("site")
    (place / "stranger").mkdir()
    (place / "stranger" / "__init__.py").write_text("raise SystemExit('imported')")
    (place / "stranger" / "inner.py").write_text("def run(text): return text\n")
    info = place / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[orchestra.tools]\nshout = stranger.inner:run\n")
    monkeypatch.syspath_prepend(place)
    return place


def test_a_module_beside_the_inventory_comes_first_and_is_trusted(folder):
    assert source_of("tools:run", [folder]).file == folder / "tools.py"
    check_trusted(tool("tools:run"), folder)


def test_an_installed_plug_in_is_trusted_by_name_and_by_function(folder, installed):
    for call in ("shout", "stranger.inner:run"):
        check_trusted(tool(call), folder)
        assert source_of(call, [folder]).file == installed / "stranger" / "inner.py"
    assert not [name for name in sys.modules if name.startswith("stranger")]


def test_an_unknown_plug_in_is_answered_with_the_closest(folder, installed):
    with pytest.raises(UnknownPlugin, match="did you mean 'shout'"):
        check_trusted(tool("shoud"), folder)


@pytest.mark.parametrize("call", ["antigravity:fly", "stranger:other"])
def test_anything_else_needs_trust_and_is_not_imported(folder, installed, call):
    with pytest.raises(Untrusted, match="--trust"):
        check_trusted(tool(call), folder)
    check_trusted(tool(call), folder, trust=True)
    source_hash(tool(call), folder)
    assert not [name for name in sys.modules if name in ("antigravity", "stranger")]


def test_a_link_that_leads_out_of_the_folder_needs_trust(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "secret.py"
    outside.write_text("def run(text): return text\n")
    (folder / "linked.py").symlink_to(outside)
    with pytest.raises(Untrusted, match="leads out of"):
        check_trusted(tool("linked:run"), folder)
    check_trusted(tool("linked:run"), folder, trust=True)


def test_the_hash_follows_the_file_and_the_call(folder):
    before = source_hash(tool("tools:run"), folder)
    assert source_hash(tool("tools:run"), folder) == before
    assert source_hash(tool("tools:other"), folder) != before
    (folder / "tools.py").write_text("def run(text): return text + text\n")
    assert source_hash(tool("tools:run"), folder) != before
    assert len(source_hash(tool("math:sqrt"), folder)) == 64
