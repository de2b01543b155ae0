"""Tools of MCP servers: real servers, started as programs or reached over HTTP on loopback."""

import asyncio
import json
import socket
import sys
from importlib.util import find_spec

import pytest

from graphs import Tool
from orchestra.agents.inventory_file import read_inventory
from orchestra.agents.mcp_config import read_servers
from orchestra.agents.tools import ToolPool, check_trusted, source_hash
from orchestra.errors import InputError, ToolError, Untrusted

pytestmark = pytest.mark.skipif(find_spec("mcp") is None, reason="the SDK is an extra")

SERVER = '''
import os, sys, time
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("sums", log_level="ERROR")

@server.tool()
def add(a: int, b: int) -> str:
    """Add two numbers."""
    return str(a + b)

@server.tool()
def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()

@server.tool()
def pid() -> str:
    return str(os.getpid())

@server.tool()
def die(text: str) -> str:
    os._exit(3)

@server.tool()
def hang(text: str) -> str:
    time.sleep(60)

@server.tool()
def refuse(text: str) -> str:
    raise ToolError("not today")

if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run("stdio")
'''


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "server.py").write_text(SERVER)
    servers = {"sums": {"command": "python", "args": ["server.py"]}, "gone": {"command": "python", "args": ["no.py"]}}
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": servers}))
    return tmp_path


@pytest.fixture
async def pool(folder):
    async with ToolPool((folder,), trust=True) as pool:
        yield pool


def tool(name, **limits):
    return Tool(name=name, call=f"mcp:sums/{name}", timeout_seconds=20, **limits)


async def test_a_text_becomes_the_one_argument_and_an_object_all_of_them(pool):
    assert await pool.call(tool("shout"), "hello") == "HELLO"
    assert await pool.call(tool("shout"), '{"text": "hello"}') == "HELLO"
    assert await pool.call(tool("add"), '{"a": 2, "b": 40}') == "42"


async def test_arguments_that_cannot_be_told_apart_are_refused_by_name(pool):
    with pytest.raises(ToolError, match=r"takes a, b; give them as one JSON object, got '2 and 40'"):
        await pool.call(tool("add"), "2 and 40")


async def test_one_server_answers_many_calls_at_once(pool):
    said = await asyncio.gather(*(pool.call(tool("pid"), "") for _ in range(20)))
    assert len(set(said)) == 1


async def test_a_server_that_dies_fails_its_call_and_is_started_again(pool):
    first = await pool.call(tool("pid"), "")
    with pytest.raises(ToolError, match=r"tool 'die' \(mcp:sums/die\) failed"):
        await pool.call(tool("die"), "now")
    assert await pool.call(tool("pid"), "") != first


async def test_a_tool_that_hangs_is_cut_off_and_the_server_goes_on(pool):
    with pytest.raises(ToolError, match=r"hung: no answer within 0.5 s"):
        await pool.call(Tool(name="hang", call="mcp:sums/hang", timeout_seconds=0.5), "x")
    assert await pool.call(tool("shout"), "still here") == "STILL HERE"


async def test_an_error_of_the_tool_is_told_as_it_was_raised(pool):
    with pytest.raises(ToolError, match="not today"):
        await pool.call(tool("refuse"), "x")


async def test_the_schema_is_the_servers_own(pool):
    schema = await pool.parameters(tool("add"))
    assert schema["required"] == ["a", "b"]
    assert await pool.parameters(Tool(name="plain", call="tools:plain")) is None


async def test_an_unknown_tool_is_answered_with_the_closest(pool):
    with pytest.raises(ToolError, match=r"server 'sums' has no such tool; did you mean 'shout'\?"):
        await pool.call(tool("shoot"), "x")


async def test_a_server_that_does_not_start_says_what_it_wrote(pool):
    with pytest.raises(ToolError, match=r"MCP server 'gone' cannot be reached: .*no\.py.*; check python no\.py"):
        await pool.call(Tool(name="x", call="mcp:gone/x"), "x")


async def test_a_server_is_a_program_from_elsewhere_and_has_to_be_trusted(folder):
    with pytest.raises(Untrusted, match=r"runs on the MCP server 'sums' \(python server\.py\).*--trust"):
        check_trusted(tool("add"), folder)
    async with ToolPool((folder,)) as pool:
        with pytest.raises(Untrusted):
            await pool.call(tool("add"), "{}")


async def test_no_server_is_left_behind(folder):
    async with ToolPool((folder,), trust=True) as pool:
        pid = int(await pool.call(tool("pid"), ""))
    async with asyncio.timeout(10):
        while _runs(pid):
            await asyncio.sleep(0.05)


async def test_a_server_is_reached_over_http(tmp_path):
    (tmp_path / "server.py").write_text(SERVER)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(tmp_path / "server.py"), str(port), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        servers = {"sums": {"url": f"http://127.0.0.1:{port}/mcp"}}
        (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": servers}))
        async with asyncio.timeout(30):
            while True:
                try:
                    (await asyncio.open_connection("127.0.0.1", port))[1].close()
                    break
                except OSError:
                    await asyncio.sleep(0.1)
        async with ToolPool((tmp_path,), trust=True) as pool:
            assert await pool.call(tool("shout"), "over http") == "OVER HTTP"
    finally:
        process.kill()
        await process.wait()


def test_the_hash_changes_when_the_server_is_reached_otherwise(folder):
    before = source_hash(tool("add"), folder)
    text = (folder / "mcp.json").read_text()
    (folder / "mcp.json").write_text(text.replace("server.py", "other.py"))
    assert source_hash(tool("add"), folder) != before


def test_every_mistake_of_the_file_is_told_at_once(tmp_path):
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({"mcpServers": {"a": {"comand": "x"}, "b": {"url": 3, "command": "y"}, "c/d": []}}))
    with pytest.raises(InputError) as refused:
        read_servers(file)
    for part in ("a: unknown key 'comand'; did you mean 'command'?", "b: give it either", "b: `url`", "c/d: is not"):
        assert part in str(refused.value)


def test_the_closest_server_is_offered(folder):
    with pytest.raises(InputError, match=r"lists no server 'sum'; did you mean 'sums'\?"):
        check_trusted(Tool(name="x", call="mcp:sum/add"), folder, trust=True)


def test_a_tool_of_a_server_is_a_component_like_any_other(folder):
    component = {"name": "adder", "kind": "tool", "description": "adds", "price_usd": "1", "call": "mcp:sums/add"}
    (folder / "inventory.json").write_text(json.dumps({"components": [component]}))
    assert read_inventory(folder / "inventory.json").components[0].call == "mcp:sums/add"


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().split()[2] != "Z"
    except OSError:
        return False


async def test_a_server_that_hangs_at_its_start_is_waited_for_once(folder, monkeypatch):
    (folder / "mute.py").write_text("import sys; sys.stdin.read()")
    servers = json.loads((folder / "mcp.json").read_text())
    servers["mcpServers"]["mute"] = {"command": "python", "args": ["mute.py"]}
    (folder / "mcp.json").write_text(json.dumps(servers))
    monkeypatch.setattr("orchestra.agents.mcp.START_SECONDS", 1.0)
    loop = asyncio.get_running_loop()
    async with ToolPool((folder,), trust=True) as pool:
        began = loop.time()
        calls = (pool.call(Tool(name="x", call="mcp:mute/x"), "x") for _ in range(5))
        found = await asyncio.gather(*calls, return_exceptions=True)
    assert all("did not answer within 1 s" in str(error) for error in found)
    assert loop.time() - began < 5
