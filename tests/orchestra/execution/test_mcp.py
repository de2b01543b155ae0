"""A team as an MCP tool, called by the protocol's own client."""

import asyncio
import json
import signal
import socket
import sys
from importlib.util import find_spec

import pytest

from graphs import AgentGraph, AgentNode, Channel, Tool, serialisation
from orchestra.errors import InputError
from orchestra.execution import Runtime, Settings
from orchestra.execution.recording import store_for
from orchestra.models.protocol import Capabilities, ToolCall
from orchestra.testing import ScriptedModel
from orchestra.testing.collector import LoopbackCollector
from orchestra.traces import names
from orchestra.traces.store import Store
from orchestra.traces.summary import run_episodes

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


async def test_the_command_keeps_to_caps_limits_and_the_redactor_and_exports(tmp_path):
    from mcp import Client, StdioServerParameters

    serialisation.write(PAIR, tmp_path / "team.yaml")
    words = ["-m", "orchestra", "mcp", "serve", str(tmp_path / "team.yaml"), "--store", str(tmp_path / "s.sqlite")]
    words += ["--model", "scripted/echo", "--limits", "concurrency=1", "--call-seconds", "30", "--node-seconds", "60"]
    words += ["--redact", "hush.", "--max-cost-agent", "answerer=0", "--max-calls-tool", "none=1"]
    with LoopbackCollector() as collector:
        server = StdioServerParameters(command=sys.executable, args=[*words, "--otlp", collector.url])
        async with Client(server) as client:
            result = await client.call_tool("sums_facts", {"task": "say hush1"})
    assert result.is_error
    assert "call-1/answerer' has $0.00 left of $0.00" in result.content[0].text
    with Store.open(tmp_path / "s.sqlite", read_only=True) as store:
        (episode,) = run_episodes(store, store.runs()[0].run_id)
        chats = [span for span in store.spans(store.runs()[0].run_id) if span.name.startswith("chat ")]
        chat = min(chats, key=lambda span: span.start_ns)
        assert "say ***" in json.dumps(store.blob_value(chat.attributes[names.INPUT_MESSAGES]))
    assert "hush1" not in repr(episode)
    assert {span.name for span in collector.spans} >= {chat.name, f"invoke_workflow {PAIR.name}"}


async def test_the_command_serves_over_http_until_it_is_interrupted(tmp_path):
    from mcp import Client

    serialisation.write(PAIR, tmp_path / "team.yaml")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["-m", "orchestra", "mcp", "serve", str(tmp_path / "team.yaml"), "--store", str(tmp_path / "s.sqlite")]
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, *words, "--model", "scripted/echo", "--port", str(port)), stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(60):
            while not await _answers(port):
                await asyncio.sleep(0.1)
        async with Client(f"http://127.0.0.1:{port}/mcp") as client:
            results = await asyncio.gather(*(client.call_tool("sums_facts", {"task": f"go {n}"}) for n in range(3)))
        assert [result.content[0].text for result in results] == [f"go {n}\n\nasker: go {n}" for n in range(3)]
        server.send_signal(signal.SIGINT)
        _, said = await asyncio.wait_for(server.communicate(), 30)
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()
    assert b"Traceback" not in said, said.decode()
    with Store.open(tmp_path / "s.sqlite", read_only=True) as store:
        assert len(run_episodes(store, store.runs()[0].run_id)) == 3


async def _answers(port):
    try:
        (await asyncio.open_connection("127.0.0.1", port))[1].close()
    except OSError:
        return False
    return True


SERVER = """
from mcp.server.mcpserver import MCPServer

server = MCPServer("sums", log_level="ERROR")

@server.tool()
def add(a: int, b: int) -> str:
    return str(a + b)

server.run("stdio")
"""


async def test_an_agent_calls_a_tool_of_a_server_with_its_own_parameters_and_the_run_is_replayed_without_it(tmp_path):
    def answer(request):
        if request.messages[-1].role == "tool":
            return f"It is {request.messages[-1].content}."
        (offered,) = request.tools
        assert sorted(offered.parameters["properties"]) == ["a", "b"]
        return ToolCall(name="add", arguments='{"a": 2, "b": 40}', id="c")

    (tmp_path / "server.py").write_text(SERVER)
    servers = {"sums": {"command": sys.executable, "args": ["server.py"]}}
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": servers}))
    adder = Tool(name="add", call="mcp:sums/add", timeout_seconds=30)
    team = AgentGraph(nodes=(AgentNode(id="clerk", tools=(adder,)),), output="clerk")

    async def played(**settings):
        model = ScriptedModel(answer, name="scripted/clerk", capabilities=Capabilities(tools=True))
        chosen = Settings(model=model.name, trust=True, **settings)
        with store_for(None if "replay" in settings else tmp_path / "s.sqlite", chosen) as store:
            async with Runtime.opened(
                "run", store=store, settings=chosen, folder=tmp_path, models={model.name: model}
            ) as runtime:
                return await runtime.play(team, "What is 2 + 40?", key="0")

    heard = await played(record=tmp_path / "heard.jsonl")
    assert (heard.reply, heard.error, heard.faults) == ("It is 42.", None, ())
    (tmp_path / "server.py").unlink()
    again = await played(replay=tmp_path / "heard.jsonl")
    assert (again.reply, again.error, again.paid_nano) == (heard.reply, None, heard.paid_nano)


async def test_a_team_that_cannot_run_is_refused_before_anything_is_served(opened):
    from orchestra.execution.mcp import team_server

    broken = PAIR.model_copy(update={"output": "nobody"})
    async with opened() as (runtime, _):
        with pytest.raises((InputError, ValueError), match="nobody"):
            team_server(runtime, broken)
