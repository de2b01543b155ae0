"""A team as an MCP tool, called by the protocol's own client."""

import json
import sys
from importlib.util import find_spec

import pytest

from graphs import AgentGraph, AgentNode, Channel, serialisation
from orchestra.errors import InputError
from orchestra.traces.store import Store

pytestmark = pytest.mark.skipif(find_spec("mcp") is None, reason="the SDK is an extra")

PAIR = AgentGraph(
    name="sums & facts",
    nodes=(AgentNode(id="asker"), AgentNode(id="answerer")),
    channels=(Channel(source="asker", target="answerer"),),
    output="answerer",
)


async def test_a_client_finds_the_team_and_gets_its_answer(opened):
    from mcp import Client

    from orchestra.execution.mcp import team_server

    async with opened(lambda request: f"heard {len(request.messages)}") as (runtime, _):
        async with Client(team_server(runtime, PAIR)) as client:
            (tool,) = (await client.list_tools()).tools
            first = await client.call_tool(tool.name, {"task": "what is 2 + 2?"})
            second = await client.call_tool(tool.name, {"task": "what is 2 + 2?"})
        spent = runtime.ledger.spent
    assert tool.name == "sums_facts"
    assert "asker, answerer" in tool.description
    assert first.content[0].text == "heard 1"
    assert [first.structured_content["episode_id"], second.structured_content["episode_id"]] == ["call-1", "call-2"]
    assert spent > 0


async def test_running_out_is_told_as_an_error_of_the_tool(opened):
    from mcp import Client

    from orchestra.execution.mcp import team_server

    async with opened(cap_nano=10) as (runtime, model), Client(team_server(runtime, PAIR)) as client:
        result = await client.call_tool("sums_facts", {"task": "go"})
    assert result.is_error
    assert "raise the cap" in result.content[0].text
    assert result.structured_content["reply"] is None
    assert model.requests == []


async def test_the_command_serves_over_standard_input_and_output(tmp_path):
    from mcp import Client, StdioServerParameters

    serialisation.write(PAIR, tmp_path / "team.yaml")
    (tmp_path / "rules.json").write_text(json.dumps({"rules": [{"match": ".*", "reply": "forty-two"}]}))
    words = ["-m", "orchestra", "mcp", "serve", str(tmp_path / "team.yaml"), "--store", str(tmp_path / "s.sqlite")]
    server = StdioServerParameters(
        command=sys.executable, args=[*words, "--model", f"scripted/{tmp_path / 'rules.json'}"]
    )
    async with Client(server) as client:
        result = await client.call_tool("sums_facts", {"task": "what is 6 * 7?"})
    assert result.content[0].text == "forty-two"
    with Store.open(tmp_path / "s.sqlite", read_only=True) as store:
        (run,) = store.runs()
        assert run.command == "serve"
        assert run.run_id == result.structured_content["run_id"]


async def test_a_team_that_cannot_run_is_refused_before_anything_is_served(opened):
    from orchestra.execution.mcp import team_server

    broken = PAIR.model_copy(update={"output": "nobody"})
    async with opened() as (runtime, _):
        with pytest.raises((InputError, ValueError), match="nobody"):
            team_server(runtime, broken)
