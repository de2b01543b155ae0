"""Commands killed at a hundred seeded moments each: nothing is lost, and next to nothing is asked twice.

The witness is the server's own count. A request may be repeated only for a call that was begun and not finished when
the process died, once for each such kill.
"""

import hashlib
import json
import signal
from collections import Counter

import pytest

from graphs import Sampling
from orchestra.evaluation.certificate import read_certificate
from orchestra.execution.digests import request_digest
from orchestra.ledger import Price, usd
from orchestra.models.protocol import Message, Request, ToolCall, ToolSchema
from orchestra.traces.store import Store
from orchestra.traces.summary import summary

MODELS = {
    "run": "vllm/loopback@URL?token_ids=false&stream=false&tools=true",
    "evaluate": "vllm/loopback@URL?token_ids=false&stream=false&tools=true",
    "compose": "vllm/loopback@URL?token_ids=false&tools=true",
}
"""Streamed and not; `URL` stands for the server's."""
PRICED = ("--price", "0.10,0.40", "--max-cost", "1", "--json")
PRICE = Price.per_million("0.10", "0.40", source="as given to the commands")

NOBODY = "a request that no call of the run waited for in the end"

TEAM = """\
name: office
sampling: {max_tokens: 60}
nodes:
  - {id: clerk, kind: router, role: You send work on., default: [writer]}
  - {id: writer, kind: agent, role: You write., memory: transcript}
  - {id: critic, kind: agent, role: You object., memory: transcript}
  - {id: counter, kind: agent, role: You count., tools: [{name: product, call: "tools:product"}]}
  - {id: ledger, kind: tool, tool: {name: length, call: "tools:length"}}
  - {id: first, kind: agent, role: You are the first judge.}
  - {id: second, kind: agent, role: You are the second judge.}
  - {id: verdict, kind: vote, extract: last-number}
channels:
  - {source: clerk, target: writer}
  - {source: clerk, target: counter}
  - {source: writer, target: critic}
  - {source: critic, target: writer}
  - {source: writer, target: first}
  - {source: counter, target: ledger}
  - {source: counter, target: first}
  - {source: ledger, target: second}
  - {source: writer, target: second}
  - {source: first, target: verdict}
  - {source: second, target: verdict}
rounds: 2
output: verdict
"""
POST_TEAM = """\
name: post
nodes:
  - {id: writer, kind: agent, role: You write.}
  - {id: mail, kind: tool, tool: {name: mail, call: "tools:sent", idempotent: false}}
  - {id: last, kind: agent, role: You end.}
channels:
  - {source: writer, target: mail}
  - {source: mail, target: last}
  - {source: writer, target: last}
output: last
"""
SECOND_TEAM = """\
name: pair
nodes:
  - {id: writer, kind: agent, role: You write.}
  - {id: editor, kind: agent, role: You edit.}
channels:
  - {source: writer, target: editor}
output: editor
"""
TOOLS = """\
import json, pathlib, re, time

def sent(text):
    time.sleep(0.01)
    with pathlib.Path(__file__).with_name("sent.jsonl").open("a") as file:
        file.write(json.dumps(text) + chr(10))
    time.sleep(0.01)
    return "It is sent."

def product(text):
    time.sleep(0.003)
    found = re.search(r"(\\d+) \\* (\\d+)", text)
    return found and f"{found[0]} = {int(found[1]) * int(found[2])}"

def length(text):
    time.sleep(0.003)
    return f"{len(text)} letters"

def backwards(text):
    found = re.search(r"Reverse (\\w+)", text)
    return found and found[1][::-1]
"""
INVENTORY = """\
components:
  - {name: calculator, kind: tool, description: Works out products, price_usd: 5, call: "tools:product"}
  - {name: calculator-twin, kind: tool, description: Works out products too, price_usd: 6, call: "tools:product"}
  - {name: reverser, kind: tool, description: Reverses words, price_usd: 3, call: "tools:backwards"}
"""


@pytest.fixture
def office(tmp_path):
    (tmp_path / "team.yaml").write_text(TEAM)
    (tmp_path / "pair.yaml").write_text(SECOND_TEAM)
    (tmp_path / "post.yaml").write_text(POST_TEAM)
    (tmp_path / "tools.py").write_text(TOOLS)
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    questions = [{"id": f"q{at}", "input": f"Question {at}?", "target": str(at % 5)} for at in range(6)]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    tasks = []
    for at in range(6):
        split, word = ("trial", "heldout")[at % 2], "abcdefgh"[at:] + "xy"
        product = {"input": f"What is {11 + at} * {23 + at}?", "target": str((11 + at) * (23 + at)), "skills": ["sums"]}
        reverse = {"input": f"Reverse {word}", "target": word[::-1], "skills": ["reversal"]}
        tasks += [{"id": f"{kind}{at}", "split": split, **row} for kind, row in (("m", product), ("r", reverse))]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tasks))
    return tmp_path


COMMANDS = {
    "run": ("run", "team.yaml", "--tasks", "questions.jsonl", *PRICED),
    "evaluate": (
        *("evaluate", "team.yaml", "pair.yaml", "--tasks", "questions.jsonl", "--samples", "2"),
        *PRICED,
    ),
    "compose": (
        *("compose", "tasks.jsonl", "--inventory", "inventory.yaml", "--budget", "9", "--queries", "3"),
        *("--search-budget", "1", "--similarity", "bm25", "--out", "NAME.yaml", "--report", "NAME.json"),
        *("--price", "0.10,0.40"),
    ),
}


@pytest.fixture(params=["sqlite", "postgresql"])
def new_store(request, office):
    if request.param == "sqlite":
        return lambda name: str(office / f"{name}.sqlite")
    server = request.getfixturevalue("postgres_server")
    return lambda name: server.database()


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_command_killed_a_hundred_times_ends_as_if_it_had_not_been(command, office, new_store, killing, table):
    words = (*COMMANDS[command], "--model", MODELS[command])
    whole, chains = await killing(office, words, new_store, seed=command)()
    expected = outcome(command, office, whole)
    assert all(outcome(command, office, chain) == expected for chain in chains)
    table(
        "Killed and resumed", {"command": command, **counted(whole, chains, killing.kills, new_store, MODELS[command])}
    )


async def test_a_run_whose_calls_are_cancelled_again_and_again_ends_as_if_they_had_not_been(
    office, new_store, killing, table
):
    """Ctrl-C cancels every call in flight and every play; some runs are killed besides."""
    words = (*COMMANDS["run"], "--model", MODELS["run"])
    both = (signal.SIGINT, signal.SIGINT, signal.SIGKILL)
    whole, chains = await killing(office, words, new_store, seed="cancelled", signals=both, kills=killing.kills // 4)()
    expected = outcome("run", office, whole)
    assert all(outcome("run", office, chain) == expected for chain in chains)
    assert sum(kill.signal == signal.SIGINT for chain in chains for kill in chain.kills) > killing.kills // 12
    table(
        "Killed and resumed",
        {"command": "run, Ctrl-C", **counted(whole, chains, killing.kills // 4, new_store, MODELS["run"])},
    )


async def test_a_tool_that_is_not_idempotent_is_called_once_whenever_its_run_is_killed(
    office, new_store, killing, table
):
    words = ("run", "post.yaml", *COMMANDS["run"][2:], "--model", MODELS["run"])
    whole, chains = await killing(office, words, new_store, seed="post", kills=killing.kills // 4)()
    expected, cut_off = outcome("run", office, whole), Counter()
    for chain in chains:
        for row, whole_row in zip(outcome("run", office, chain), expected, strict=True):
            if row != whole_row:
                assert "--rerun-tools" in str(row["faults"]), "only one that was cut off may be missing, and is named"
                cut_off[row["task"]] += 1
    called = Counter((office / "sent.jsonl").read_text().splitlines())
    assert len(called) == len(expected)
    runs = 1 + len(chains)
    assert all(runs - max(cut_off.values(), default=0) <= count <= runs for count in called.values())
    row = counted(whole, chains, killing.kills // 4, new_store, MODELS["run"])
    table("Killed and resumed", {"command": "run, mail", **row, "tools cut off": cut_off.total()})


def counted(whole, chains, least, new_store, model):
    """What the kills came to, after the books of each run were checked."""
    repeated = begun_again = 0
    for chain in chains:
        extra, in_flight = books_agree(chain, model.replace("URL", chain.url))
        repeated += extra
        begun_again += in_flight
    kills = Counter(kill.how for chain in chains for kill in chain.kills)
    assert kills.total() >= least
    assert repeated <= begun_again
    row = {"store": new_store("any").partition(":")[0].rpartition("/")[2].rpartition(".")[2]}
    row |= {"runs": len(chains), "kills": kills.total(), **{f"by {how}": kills[how] for how in sorted(kills)}}
    return row | {"requests a run": len(whole.served), "in flight at a kill": begun_again, "asked twice": repeated}


def outcome(command, folder, chain):
    """What a run found, without times, ids, and what it paid, which a kill may raise."""
    if command == "run":
        rows = json.loads(chain.printed)["episodes"]
        return [{name: row[name] for name in ("task", "reply", "error", "faults", "score", "list_usd")} for row in rows]
    if command == "evaluate":
        teams = json.loads(chain.printed)["teams"]
        return [{name: value for name, value in team.items() if name != "paid_usd"} for team in teams]
    name = chain.name
    made = read_certificate(folder / f"{name}.json")
    arms = [(arm.arm, arm.success, arm.interval, arm.list_usd_per_task) for arm in made.success]
    graph = made.team.graph.model_copy(update={"provenance": None, "model": None})
    return made.verdict, made.team.components, graph, made.components, made.optimum, made.headline, arms


def books_agree(chain, model):
    """Requests asked more than once, and calls in flight at a kill; the journal and the ledger are checked."""
    with Store.open(chain.store, read_only=True) as store:
        (run,) = store.runs()
        journal = [entry for entry in store.journal(run.run_id) if entry.kind == "model"]
        entries = [record.entry for record in store.ledger_entries(run.run_id)]
        told = summary(store, run)
    begun, finished, cache_keys = Counter(), {}, {}
    for entry in journal:
        assert entry.key not in finished, "what was answered is never asked again"
        if entry.event == "begin":
            begun[entry.key] += 1
            cache_keys[entry.key] = entry.request_hash
        else:
            finished[entry.key] = entry.reply["asked"]
    assert set(finished) <= set(begun)
    assert max(begun.values()) <= chain.attempts
    # A call that was cut off may be answered by the cache in the end: then it is the one of an equal request.
    by_cache_key = {cache_keys[key]: digest for key, digest in finished.items() if cache_keys[key]}
    may_be_asked, calls = Counter(), Counter(finished.values())
    for key, count in begun.items():
        may_be_asked[finished.get(key) or by_cache_key.get(cache_keys[key], NOBODY)] += count
    asked = Counter(digest_of(record, model, set(finished.values())) for record in chain.served)
    for digest, count in asked.items():
        assert calls[digest] <= count <= may_be_asked[digest], "one extra request for each kill in flight at the most"
    settled = sum(entry.nano for entry in entries if entry.event == "settle")
    unknown = sum(entry.nano for entry in entries if entry.event == "unknown")
    served = sum(PRICE.cost(record.prompt_tokens, record.completion_tokens) for record in chain.served)
    assert settled <= served <= settled + unknown
    assert told.figures.paid_nano == settled + unknown, "what the traces tell is what the ledger paid"
    if chain.printed.startswith("{"):
        assert json.loads(chain.printed)["paid_usd"] == str(usd(settled + unknown))
    return asked.total() - calls.total(), begun.total() - calls.total()


def digest_of(record, model, known):
    """The digest of the request behind what the server was asked; it is among `known`."""
    body = record.body
    messages = tuple(message_of(message) for message in body["messages"])
    tools = tuple(
        ToolSchema(name=each["function"]["name"], description=each["function"]["description"])
        for each in body.get("tools", ())
    )
    hashed = {at: hashlib.sha256(f"0/{at}".encode()).digest() for at in range(9)}
    seeds = {int.from_bytes(hashed[at][:count], "big") >> 1: (0, at) for at in hashed for count in (4, 8)}
    for seed, index in [seeds[body["seed"]]] if "seed" in body else [(None, at) for at in range(9)]:
        sampling = Sampling(max_tokens=body["max_tokens"], temperature=body.get("temperature", 0))
        request = Request(messages=messages, tools=tools, sampling=sampling, seed=seed, sample_index=index)
        digest = request_digest(model, request)
        if digest in known:
            return digest
    return NOBODY


def message_of(message):
    calls = tuple(
        ToolCall(id=call["id"], name=call["function"]["name"], arguments=call["function"]["arguments"])
        for call in message.get("tool_calls") or ()
    )
    given = {"role": message["role"], "content": message.get("content") or "", "tool_calls": calls}
    return Message(**given, tool_call_id=message.get("tool_call_id"))
