"""Every fault of a server, for every way of asking one: how the run ends, and whether the books agree with the server.

The witness is the server's own count of what it read and made. For each attempt: one request, one reservation, closed
once; given back if the server refused; settled at exactly what was served if its count can be true; else booked in
full, which is never less than what was served.
"""

import asyncio
import contextlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec

import pytest

from graphs import AgentNode, Sampling, Tool
from graphs.motifs import MOTIFS
from orchestra.errors import BudgetError, ModelError
from orchestra.execution import Runtime, Settings
from orchestra.execution.runner import runtime_episodes
from orchestra.ledger import Price
from orchestra.models import open_model
from orchestra.models.limits import Limits
from orchestra.models.protocol import Message, Request
from orchestra.models.retry import RetryPolicy
from orchestra.testing import FAULTS, REFUSING, Answer, FaultyServer
from orchestra.traces import names
from orchestra.traces.store import Store

pytestmark = [
    pytest.mark.skipif(find_spec("litellm") is None, reason="needs the extra: providers"),
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),  # litellm's own use of pydantic
    pytest.mark.filterwarnings("ignore:coroutine 'OpenAIChatCompletion:RuntimeWarning"),  # one it drops when cancelled
]

PRICE = Price(1_000_000, 1_000_000_000, "test")  # 1 nano-USD a prompt token, 1000 a reply token: overruns show
CAP_NANO = 2_000_000
MAX_TOKENS = 256
HANGING_SECONDS, PATIENT_SECONDS = 1.0, 60.0
RETRY = RetryPolicy(attempts=3, refusals=5, first_seconds=0.01, longest_seconds=0.02)
SHOUT = Tool(name="shout", description="Says it louder.", call="office:shout")
CALLED = (("shout", '{"input": "go"}'),)


@dataclass(frozen=True)
class Way:
    """A way of asking a server."""

    model: str
    """`{url}` is the server's address, with `/v1` where the client wants it."""
    settings: dict = None
    tools: bool = False
    by_ids: bool = False
    proxied: bool = False


WAYS = {
    "litellm": Way("openai/loopback", {"api_base": "{url}/v1", "api_key": "none"}),
    "vllm plain": Way("vllm/loopback@{url}?token_ids=false&stream=false"),
    "stream": Way("vllm/loopback@{url}?token_ids=false"),
    "tools": Way("vllm/loopback@{url}?token_ids=false&tools=true", tools=True),
    "token-id prompts": Way("vllm/loopback@{url}", {"processed_logprobs": True}, by_ids=True),
    "proxy": Way("vllm/loopback@{url}?token_ids=false", proxied=True),
}

AGAIN = {"429", "429-retry-after", "503", "500", "cut", "malformed-json", "no-choices"}
"""Faults after which the same call is made again."""
OUT_OF_TIME = {"hang", "hang-midway"}
UNCOUNTED = {"no-tokens", "too-few-tokens", "absurd-tokens", "negative-tokens", "missing-usage"}
"""Faults whose reply is good and whose count cannot be true, or is not there."""


def expected_end(fault, when):
    """Class of the error that ends the run; `None` when the team answers."""
    if fault in OUT_OF_TIME or (when == "always" and fault in AGAIN):
        return ModelError
    return BudgetError if fault == "past-max-tokens" else None


def good(asked, tools):
    """What the server answers when nothing is wrong: a tool is called first, where there is one."""
    heard = any(message["role"] == "tool" for message in asked.body.get("messages", ()))
    first = tools and not heard and "tools" in asked.body
    return Answer(text="", tool_calls=CALLED) if first else Answer(text="all is well")


def planned(fault, way, when):
    """A plan under which the first request, or every one, is answered with `fault`."""

    def plan(asked):
        if when == "once" and asked.number > 1:
            return good(asked, way.tools)
        answer = FAULTS[fault](asked) if fault in FAULTS else good(asked, way.tools)
        calls = way.tools and answer.text and good(asked, True).tool_calls and fault != "past-max-tokens"
        text = answer.text if fault == "too-few-tokens" else ""  # a call alone is too short to be too few
        return replace(answer, text=text, tool_calls=CALLED) if calls else answer

    return plan


@contextlib.asynccontextmanager
async def asking(way, server, store):
    """A model that asks `server` this way."""
    async with contextlib.AsyncExitStack() as stack:
        url = server.url.removesuffix("/v1")
        if way.proxied:
            from orchestra.proxy import proxying

            proxy = await stack.enter_async_context(proxying(url, store=store))
            url = proxy.url.removesuffix("/v1")
        settings = {key: v.format(url=url) if isinstance(v, str) else v for key, v in (way.settings or {}).items()}
        model = open_model(way.model.format(url=url), price=PRICE, **settings)
        await model.meet()  # what it asks the server for now is none of the faults' business
        yield model


@dataclass
class Ended:
    """What a run came to."""

    played: object
    server: FaultyServer
    ledger: object
    entries: list
    journal: list
    chats: list
    episode: object
    blob: Callable


async def run_cell(fault, way, when, tmp_path):
    """One run of two agents, one after the other."""
    team = MOTIFS["chain"](
        [AgentNode(id="first", role="You begin.", tools=(SHOUT,) if way.tools else ()), AgentNode(id="second")],
        sampling=Sampling(temperature=1.0, max_tokens=MAX_TOKENS),
    )
    (tmp_path / "office.py").write_text("def shout(text): return text.upper()\n")
    settings = Settings(
        model="asked", call_seconds=HANGING_SECONDS if fault in OUT_OF_TIME else PATIENT_SECONDS, retry=RETRY
    )
    with Store.open(tmp_path / "store.sqlite") as store, Store.open(tmp_path / "proxy.sqlite") as other:
        async with FaultyServer(planned(fault, way, when)) as server, asking(way, server, other) as model:
            async with Runtime.opened(
                *("run",), store=store, settings=settings, folder=tmp_path, cap_nano=CAP_NANO, models={"asked": model}
            ) as runtime:
                async with asyncio.timeout(30):
                    played = await runtime.play(team, "go", key="0")
            await until(lambda: server.running == 0)
        chats = [span for span in store.spans(runtime.run_id) if span.name.startswith(names.CHAT)]
        return Ended(
            played,
            server,
            runtime.ledger,
            [record.entry for record in store.ledger_entries(runtime.run_id)],
            list(store.journal(runtime.run_id)),
            chats,
            runtime_episodes(store, runtime.run_id)[0],
            {
                digest: store.blob_value(digest)
                for span in chats
                if (digest := span.attributes.get(names.FAILED_ATTEMPTS))
            },
        )


async def until(true):
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


def books_agree(ended, fault, way):
    """Money: one reservation for each request, closed once, and never for less than was served."""
    opened = [entry for entry in ended.entries if entry.event == "reserve"]
    closed = {e.reservation_id: e for e in ended.entries if e.event in ("settle", "unknown", "release")}
    assert len(opened) == len(closed) == len(ended.server.served)  # nothing billed twice: a retry is a new call
    assert len(ended.entries) == 2 * len(opened) + any(entry.event == "overrun" for entry in ended.entries)
    for reserved, served in zip(opened, ended.server.served, strict=True):
        end, cost = closed[reserved.reservation_id], PRICE.cost(served.prompt_tokens, served.completion_tokens)
        if served.status in REFUSING:
            assert (end.event, cost) == ("release", 0)
        elif end.event == "settle":
            assert end.nano == cost  # exactly what was served
        else:
            assert end.event == "unknown"  # never less than what was served, and never more than was put aside
            assert cost <= end.nano == reserved.nano
    truth = sum(PRICE.cost(one.prompt_tokens, one.completion_tokens) for one in ended.server.served)
    assert truth <= ended.ledger.spent == sum(e.nano for e in closed.values() if e.event != "release")
    assert ended.ledger.reserved == 0
    by_ids = way.by_ids and fault in ("no-tokens", "too-few-tokens")  # there the ids are the count
    faulty = closed[opened[0].reservation_id].event
    assert (faulty == "unknown") == (
        fault in OUT_OF_TIME | UNCOUNTED | AGAIN - {"429", "429-retry-after", "503"} and not by_ids
    )
    assert ended.ledger.overrun == (fault == "past-max-tokens")
    counted = ended.played.spent.input_tokens, ended.played.spent.output_tokens
    if fault == NO_FAULT:
        served = [(one.prompt_tokens, one.completion_tokens) for one in ended.server.served]
        assert counted == tuple(map(sum, zip(*served, strict=True)))
    assert min(counted) >= 0
    return truth


def records_agree(ended, error, *, doubted):
    """Journal, spans and episode tell the same story as the books."""
    begun = [entry.key for entry in ended.journal if entry.event == "begin" and entry.kind == "model"]
    finished = [entry.key for entry in ended.journal if entry.event == "finish" and entry.kind == "model"]
    assert len(begun) == len(set(begun)) == len(ended.server.served)
    failures = [attempt for attempts in ended.blob.values() for attempt in attempts]
    assert len(finished) + len(failures) == len(begun)
    paid = sum(span.attributes.get(names.PAID_NANO, 0) for span in ended.chats)
    assert paid + sum(attempt["booked_nano"] for attempt in failures) == ended.ledger.spent
    assert (ended.episode.error is None) == (error is None)
    assert any(span.attributes.get(names.USAGE_DOUBT) for span in ended.chats) or not doubted
    turns = [turn for transcript in ended.episode.transcripts for turn in transcript.turns]
    assert len(turns) == len(ended.chats)


def ended_as_defined(ended, error):
    """The state is the one the table says."""
    if error is None:
        assert ended.played.error is None, ended.played.error
        assert ended.played.reply
    else:
        assert isinstance(ended.played.error, error)


NO_FAULT = "none"
ROWS = [
    (fault, way, when)
    for fault in (NO_FAULT, *FAULTS)
    for way in WAYS
    for when in ("once", "always")
    if when == "once" or fault in AGAIN | UNCOUNTED  # the others end the run the first time
]


@pytest.fixture(scope="module", autouse=True)
def _litellm_is_warm():
    """Its first call imports for seconds, which would count as the server's silence."""

    async def ask():
        async with FaultyServer() as server:
            model = open_model("openai/loopback", api_base=server.url, api_key="none")
            async for _ in model.stream(Request(messages=(Message(role="user", content="hi"),))):
                pass
            await model.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asyncio.run(ask())


@pytest.mark.parametrize(("fault", "way", "when"), ROWS)
async def test_however_a_server_fails_the_books_hold_what_it_served(fault, way, when, tmp_path, table):
    ended = await run_cell(fault, WAYS[way], when, tmp_path)
    error = expected_end(fault, when)
    ended_as_defined(ended, error)
    truth = books_agree(ended, fault, WAYS[way])
    # Where the client of the server has no doubts of its own, the span quotes what was wrong with the count.
    records_agree(ended, error, doubted=way == "litellm" and fault in UNCOUNTED - {"missing-usage"})
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})  # nothing hangs
    table(
        "faults",
        {
            "fault": fault,
            "asked by": way,
            "when": when,
            "ends": "answered" if error is None else error.__name__,
            "requests": len(ended.server.served),
            "served_nano": truth,
            "booked_nano": ended.ledger.spent,
        },
    )


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_that_is_cancelled_in_the_middle_of_its_reply_is_not_free(way, tmp_path):
    answer = Answer(text="one two three four five six", word_seconds=0.05, delay_seconds=0.05)
    with Store.open(tmp_path / "store.sqlite") as store, Store.open(tmp_path / "proxy.sqlite") as other:
        async with FaultyServer([answer]) as server, asking(WAYS[way], server, other) as model:
            async with Runtime.opened(
                "run", store=store, settings=Settings(model="asked"), cap_nano=CAP_NANO, models={"asked": model}
            ) as runtime:
                playing = asyncio.create_task(runtime.play(MOTIFS["solo"](["Go."]), "go", key="0"))
                await until(lambda: server.served and server.served[0].completion_tokens > 3)
                playing.cancel()
                await asyncio.gather(playing, return_exceptions=True)
            await until(lambda: server.running == 0)  # the server was told
        (served,) = server.served
        (entry,) = [r.entry for r in store.ledger_entries(runtime.run_id) if r.entry.event != "reserve"]
    assert entry.event == "unknown"
    assert 0 < PRICE.cost(served.prompt_tokens, served.completion_tokens) <= entry.nano == runtime.ledger.spent


FAN = MOTIFS["vote"]([f"You are member {number}." for number in range(12)])


@contextlib.asynccontextmanager
async def fan(plan, tmp_path, *, cap_nano=None, **settings):
    """A run of a team of twelve, who all answer at once; its ledger, and the server they ask."""
    with Store.open(tmp_path / "store.sqlite") as store:
        async with FaultyServer(plan) as server, asking(WAYS["stream"], server, None) as model:
            async with Runtime.opened(
                *("run",),
                store=store,
                settings=Settings(model="asked", **{"retry": RETRY, **settings}),
                cap_nano=cap_nano,
                models={"asked": model},
            ) as runtime:
                played = await runtime.play(FAN, "go", key="0")
            yield played, runtime, server


def member(served):
    return served.body["messages"][0]["content"]


async def test_a_storm_of_refusals_keeps_every_finished_sibling_and_costs_nothing(tmp_path):
    def storm(asked):
        return Answer(status=429) if 4 < asked.number <= 40 else Answer(text="all is well")

    patient = RetryPolicy(first_seconds=0.02, longest_seconds=0.05)
    async with fan(storm, tmp_path, retry=patient) as (played, runtime, server):
        pass
    answered = [member(one) for one in server.served if one.status == 200]
    assert played.error is None
    assert sorted(answered) == sorted(f"You are member {number}." for number in range(12))  # nobody was asked twice
    assert server.counts().statuses == {200: 12, 429: 36}
    assert runtime.ledger.spent == sum(PRICE.cost(one.prompt_tokens, one.completion_tokens) for one in server.served)


async def test_what_the_server_asks_one_to_wait_all_wait(tmp_path):
    def busy_once(asked):
        wait = (("retry-after", "0.4"),)
        return Answer(status=429, headers=wait) if asked.number == 1 else Answer(text="all is well")

    limits = {"*": Limits(concurrency=1)}
    async with fan(busy_once, tmp_path, limits=limits) as (played, _, server):
        pass
    assert played.error is None
    first, *later = server.served
    assert len(later) == 12
    assert all(one.began_at - first.began_at >= 0.4 for one in later)


async def test_no_more_than_the_limit_are_ever_at_the_server_at_once(tmp_path):
    limits = {"*": Limits(concurrency=3)}
    async with fan([Answer(delay_seconds=0.02)], tmp_path, limits=limits) as (played, _, server):
        pass
    assert played.error is None
    assert server.running_most == 3


@pytest.mark.parametrize("calls", [0, 1, 5, 11])
async def test_a_cap_is_kept_by_the_server_s_own_count(calls, tmp_path):
    worst = 300_000  # of one call, and a little more
    async with fan([Answer()], tmp_path, cap_nano=worst * calls + 1) as (played, runtime, server):
        pass
    served = sum(PRICE.cost(one.prompt_tokens, one.completion_tokens) for one in server.served)
    assert served == runtime.ledger.spent <= runtime.ledger.cap
    assert (played.error is None) == (len(server.served) == 12)
    assert (played.error is None) == (calls > 1)
    assert played.error is None or isinstance(played.error, BudgetError)


async def test_a_resumed_run_finds_the_reply_on_whichever_try_it_came(tmp_path):
    def busy_then_broken(asked):
        if asked.number <= 6:
            return Answer(status=429)
        return Answer(text="all is well") if asked.number == 7 or asked.number > 8 else Answer(status=400)

    retry = RetryPolicy(attempts=2, refusals=9, first_seconds=0.0, longest_seconds=0.0)
    settings = Settings(model="asked", retry=retry)
    run_id, chain = None, MOTIFS["chain"](["Begin.", "End."])
    with Store.open(tmp_path / "store.sqlite") as store:
        async with FaultyServer(busy_then_broken) as server:
            for _ in range(2):
                async with (
                    asking(WAYS["stream"], server, None) as model,
                    Runtime.opened(
                        "run", store=store, settings=settings, models={"asked": model}, resume=run_id
                    ) as runtime,
                ):
                    played = await runtime.play(chain, "go", key="0")
                run_id = runtime.run_id
    assert played.reply == "all is well"
    assert server.counts().statuses == {429: 6, 200: 2, 400: 1}
    assert runtime.ledger.spent == sum(PRICE.cost(one.prompt_tokens, one.completion_tokens) for one in server.served)
