"""Whatever a tool does, the caller gets text or one clear error, and the next call is answered."""

import asyncio
import time

import pytest

from graphs import Tool
from orchestra.agents.tool_sources import check_system
from orchestra.agents.tools import ToolPool
from orchestra.errors import InputError, ToolError, UnknownPlugin, Untrusted

GOOD = """
from siblings import WORD

def shout(text):
    return f"{text.upper()} {WORD}"

def silent(text):
    return None

def printing(text):
    print("{not json")
    import sys, os
    print("neither is this", file=sys.stderr)
    os.write(1, b"nor this")
    os.write(2, b"nor this")
    return text

def reading(text):
    try:
        return input()
    except EOFError:
        return "nothing to read"

def here(text):
    import os
    return os.getcwd()

def long_answer(text):
    return "x" * int(text)

def process_id(text):
    import os
    return str(os.getpid())
"""

BAD = """
import ctypes, os, sys, time

def hang(text):
    while True:
        time.sleep(1)

def hang_in_c(text):
    ctypes.CDLL(None).sleep(60)

def raise_(text):
    print("about to divide")
    return 1 / 0

class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no")

def raise_unspeakable(text):
    raise Unspeakable

def rubbish_object(text):
    return object()

def rubbish_int(text):
    return 5

def rubbish_bytes(text):
    return b"bytes"

def rubbish_surrogate(text):
    return chr(0xD800)

async def rubbish_coroutine(text):
    return text

def huge(text):
    return "x" * 1_000_000

def segfault(text):
    ctypes.string_at(0)

def exit_now(text):
    os._exit(3)

def exit_politely(text):
    sys.exit("bye")

def memory_hog(text):
    hoard = []
    while True:
        hoard.append(bytearray(16 * 1024 * 1024))

def endless_recursion(text):
    return endless_recursion(text)

def kill_the_group(text):
    os.kill(os.getpid(), 9)

def write_to_every_descriptor(text):
    for number in range(3, 64):
        try:
            os.write(number, b"rubbish\\n")
        except OSError:
            pass
    return text

def fork_and_die(text):
    if os.fork() == 0:
        time.sleep(60)
    os._exit(4)

NOT_A_FUNCTION = 5
"""

BROKEN = [
    ("hang", "bad:hang", "hung: no answer within 1 s; its worker was killed"),
    ("hang in C", "bad:hang_in_c", "hung"),
    (
        "raise",
        "bad:raise_",
        r"raised ZeroDivisionError: division by zero \(bad.py, line 13\); it printed: 'about to div",
    ),
    ("raise without a message", "bad:raise_unspeakable", "raised Unspeakable"),
    ("object", "bad:rubbish_object", "answered with object, not text"),
    ("int", "bad:rubbish_int", "answered with int, not text"),
    ("bytes", "bad:rubbish_bytes", "answered with bytes, not text"),
    ("lone surrogate", "bad:rubbish_surrogate", "not valid Unicode"),
    ("coroutine", "bad:rubbish_coroutine", "answered with coroutine"),
    ("huge output", "bad:huge", "answered with 1000000 bytes; 64 KiB is the most"),
    ("segfault", "bad:segfault", r"crashed its worker \(SIGSEGV\)"),
    ("os._exit", "bad:exit_now", "ended its worker with exit code 3"),
    ("sys.exit", "bad:exit_politely", "raised SystemExit: bye"),
    ("memory hog", "bad:memory_hog", "ran out of memory: it may grow by 128 MiB"),
    ("infinite recursion", "bad:endless_recursion", "raised RecursionError"),
    ("kills itself", "bad:kill_the_group", "SIGKILL"),
    ("writes into the protocol", "bad:write_to_every_descriptor", "disturbed its worker"),
    ("leaves a child behind", "bad:fork_and_die", "hung|exit code 4"),
    ("syntax error", "syntax:run", r"could not be imported: SyntaxError: .*syntax.py"),
    ("import error", "imports:run", "could not be imported: ModuleNotFoundError: No module named 'nowhere_at_all'"),
    ("raises while imported", "raises:run", "raised KeyError: 'absent'"),
    ("missing function", "bad:absent", "does not exist: module 'bad' has no function 'absent'"),
    ("not a function", "bad:NOT_A_FUNCTION", "is a int, not a function"),
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "good.py").write_text(GOOD)
    (tmp_path / "siblings.py").write_text("WORD = 'first'")
    (tmp_path / "bad.py").write_text(BAD)
    (tmp_path / "syntax.py").write_text("def run(text:\n")
    (tmp_path / "imports.py").write_text("import nowhere_at_all\n")
    (tmp_path / "raises.py").write_text("{}['absent']\n")
    return tmp_path


def tool(call, **limits):
    limits = {"timeout_seconds": 10, "memory_mib": 128, **limits}
    return Tool(name=call.partition(":")[2] or call, call=call, **limits)


@pytest.mark.parametrize(("call", "message"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
async def test_a_broken_tool_is_one_clear_error_and_the_pool_goes_on(folder, call, message):
    limit = 1 if "hang" in call or "fork" in call else 10
    async with ToolPool([folder], workers=1) as pool:
        with pytest.raises(ToolError, match=rf"^tool '.*' \({call}\).*({message})"):
            await pool.call(tool(call, timeout_seconds=limit), "text")
        assert await pool.call(tool("good:shout"), "text") == "TEXT first"


@pytest.mark.parametrize(
    ("call", "text", "answer"),
    [
        ("good:shout", "grüße 🙂\n\x00", "GRÜSSE 🙂\n\x00 first"),
        ("good:silent", "text", None),
        ("good:printing", "text", "text"),
        ("good:reading", "text", "nothing to read"),
        ("good:long_answer", "65536", "x" * 65536),
        ("good:shout", "x" * 3_000_000, None),
    ],
    ids=["text", "nothing to say", "prints", "reads standard input", "as long as allowed", "a long task"],
)
async def test_a_tool_answers_with_text_or_nothing(folder, call, text, answer):
    async with ToolPool([folder], workers=1) as pool:
        if len(text) > 1_000_000:
            with pytest.raises(ToolError, match="3000006 bytes"):
                await pool.call(tool(call), text)
        else:
            assert await pool.call(tool(call), text) == answer


async def test_a_worker_is_reused_until_a_tool_breaks_it(folder):
    async with ToolPool([folder], workers=1) as pool:
        first = await pool.call(tool("good:process_id"), "")
        assert await pool.call(tool("good:process_id"), "") == first
        with pytest.raises(ToolError):
            await pool.call(tool("bad:raise_"), "")
        assert await pool.call(tool("good:process_id"), "") == first
        with pytest.raises(ToolError):
            await pool.call(tool("bad:segfault"), "")
        assert await pool.call(tool("good:process_id"), "") != first


async def test_a_tool_that_hangs_does_not_delay_the_other_workers(folder):
    async with ToolPool([folder], workers=2) as pool:
        await asyncio.gather(*(pool.call(tool("good:silent"), "") for _ in range(2)))
        hanging = asyncio.create_task(pool.call(tool("bad:hang", timeout_seconds=3), ""))
        await asyncio.sleep(0)
        started = time.monotonic()
        for _ in range(20):
            assert await pool.call(tool("good:shout"), "a") == "A first"
        assert time.monotonic() - started < 3
        assert not hanging.done()
        with pytest.raises(ToolError, match="hung"):
            await hanging


async def test_a_cancelled_call_kills_its_worker_and_the_next_is_answered(folder):
    async with ToolPool([folder], workers=1) as pool:
        hanging = asyncio.create_task(pool.call(tool("bad:hang", timeout_seconds=60), ""))
        await asyncio.sleep(0.2)
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert await pool.call(tool("good:shout"), "a") == "A first"


async def test_many_calls_at_once_each_get_their_own_answer(folder):
    async with ToolPool([folder], workers=3) as pool:
        answers = await asyncio.gather(*(pool.call(tool("good:shout"), str(i)) for i in range(60)))
    assert answers == [f"{i} first" for i in range(60)]


async def test_two_folders_may_have_modules_of_the_same_name(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "good.py").write_text(GOOD)
    (other / "siblings.py").write_text("WORD = 'second'")
    async with ToolPool([folder], workers=1) as pool:
        for _ in range(2):
            assert await pool.call(tool("good:shout"), "a", folder=other) == "A second"
            assert await pool.call(tool("good:shout"), "a", folder=folder) == "A first"
            assert await pool.call(tool("good:here"), "a", folder=other) == str(other.resolve())


async def test_a_tool_file_may_be_called_like_a_standard_module(tmp_path):
    (tmp_path / "json.py").write_text("def dumps(text):\n    return 'mine ' + text\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "inner.py").write_text("class Maths:\n    @staticmethod\n    def one(text): return '1'\n")
    async with ToolPool([tmp_path], workers=1) as pool:
        assert await pool.call(tool("json:dumps"), "a") == "mine a"
        assert await pool.call(tool("package.inner:Maths.one"), "a") == "1"


async def test_the_memory_limit_counts_growth_not_what_the_worker_holds(folder):
    async with ToolPool([folder], workers=1) as pool:
        assert await pool.call(tool("good:shout", memory_mib=64), "a") == "A first"


async def test_code_from_elsewhere_needs_trust(folder, tmp_path_factory):
    async with ToolPool([folder], workers=1) as pool:
        with pytest.raises(Untrusted, match=r"'colorsys:hls_to_rgb'.*--trust"):
            await pool.call(tool("colorsys:hls_to_rgb"), "")
        with pytest.raises(UnknownPlugin, match="write 'good:function'"):
            await pool.call(tool("good"), "")
        with pytest.raises(InputError, match="module:function"):
            await pool.call(tool("../good:shout"), "")
    async with ToolPool([folder], workers=1, trust=True) as pool:
        assert await pool.call(tool("textwrap:dedent"), "  a") == "a"


async def test_a_closed_pool_leaves_no_process_behind(folder):
    pool = ToolPool([folder], workers=2)
    await asyncio.gather(*(pool.call(tool("good:silent"), "") for _ in range(2)))
    processes = [worker.process for worker in pool._idle]
    await pool.close()
    await pool.close()
    assert [process.poll() is None for process in processes] == [False, False]


def test_a_system_that_cannot_run_a_worker_refuses_the_tool_and_says_what_to_do():
    tool = Tool(name="order", call="office:order")
    check_system(tool, "posix")
    with pytest.raises(InputError, match=r"'order' cannot run on this system.*WSL"):
        check_system(tool, "nt")


def test_the_worker_s_file_can_be_read_where_there_are_no_resource_limits():
    import subprocess
    import sys

    code = "import sys; sys.modules['resource'] = None; import orchestra.agents.tools, orchestra.execution.calls"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_worker_imports_no_part_of_orchestra_and_starts_fast():
    import subprocess
    import sys

    from orchestra.agents import tool_worker

    code = f"import runpy, sys; runpy.run_path({tool_worker.__file__!r}); print(sorted(sys.modules))"
    shown = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    assert not [
        name for name in ("orchestra", "graphs", "pydantic", "torch", "numpy", "asyncio") if f"'{name}'" in shown
    ]
