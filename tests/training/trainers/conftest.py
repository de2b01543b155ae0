"""A game small enough to be learnt in seconds, played on the embedded engine, and a model made for it."""

import asyncio
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from graphs import Sampling
from orchestra.models.local import open_local
from orchestra.models.local.bases import local_base
from orchestra.models.protocol import Completion, Request
from orchestra.models.protocol import Message as Sent
from orchestra.traces.episode import Episode, Message, Seat, Transcript, Turn, TurnSampling
from training.recipes import Make, Recipe
from training.trainers.demonstrations import demonstrations
from training.trainers.making import made
from training.trainers.processes import Processes
from training.trainers.study import imitated
from training.trainers.update import Learner

WORDS = ("red", "blue", "green")
ASKED = "Say one of red, blue, green."

FORKS = """
import gc, json, os, signal, sys, time, traceback

import accelerate, peft, torch.distributed.fsdp
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast
import orchestra.environments.sources, orchestra.models.local, training.trainers.demonstrations, training.trainers.job

def carried_out(program, words, said, environment):
    os.environ.clear()
    os.environ.update(environment)
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(file, number)
    sys.argv = ["-c", *words]
    try:
        exec(compile(program, "-c", "exec"), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

def code_of(child, seconds):
    deadline = time.monotonic() + seconds
    while (found := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(found[1])

gc.freeze()
for line in sys.stdin:
    asked = json.loads(line)
    if "child" in asked:
        print(code_of(**asked), flush=True)
        continue
    child = os.fork()
    if child == 0:
        carried_out(**asked)
    print(child, flush=True)
"""
"""Imports everything once, and forks a process for each program: the imports take longer than what is tested."""


class Forks:
    """Starts programs as processes of their own, and tells how they ended."""

    def __init__(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def start(self, program, *words, said, **environment):
        """The id of a process that carries out `program`; what it says goes to the file `said`."""
        given = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        return self._asked(program=program, words=[str(word) for word in words], said=str(said), environment=given)

    def ended(self, child, seconds=150):
        """How it ended, a signal as a negative number; it is killed when it takes longer."""
        return self._asked(child=child, seconds=seconds)

    def close(self):
        with self._process:
            self._process.stdin.close()

    def _asked(self, **asked):
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


class Words:
    """Each seat says two words; `liked[agent]` is worth one, any other of the three nothing, all else minus one.

    Turns are one growing transcript. Agents sit in the order of `agents`; a name that is not trained plays the base.
    """

    def __init__(self, base, agents, liked, *, turns=2, max_tokens=3, top_p=1.0):
        self.base, self.agents, self.liked, self.turns = base, agents, liked, turns
        self.sampling = Sampling(temperature=1.0, max_tokens=max_tokens, top_p=top_p)
        self.fixed = {}
        self.asked = []
        self.model = None

    async def episodes(self, adapters, count, seed):
        self.asked.append((dict(adapters), count, seed))
        if self.model is None:
            self.model = open_local(self.base, dtype="float32", threads=1)
        return await asyncio.gather(*(self._one(adapters, seed * 1000 + at, at) for at in range(count)))

    async def close(self):
        if self.model is not None:
            await self.model.close()

    async def _one(self, adapters, seed, at):
        transcripts, seats = [], []
        for seat, agent in enumerate(self.agents):
            if agent == "api":
                turns = [spoken_by_api(turn) for turn in range(self.turns)]
            else:
                served = {**adapters, **self.fixed}.get(agent) or None
                turns = await self._turns(served, seed * 7 + seat)
            rewards = [self.worth(agent, turn.reply) for turn in turns]
            turns = [turn.model_copy(update={"reward": r}) for turn, r in zip(turns, rewards, strict=True)]
            transcripts.append(Transcript(seat=seat, node=agent, kind="agent", turns=tuple(turns)))
            seats.append(Seat(seat=seat, team=agent, reward=sum(rewards)))
        return Episode(
            episode_id=f"{seed}-{at}", run_id="words", environment="words", seats=seats, transcripts=transcripts
        )

    async def _turns(self, adapter, seed):
        sent, kept, turns = [Sent(role="user", content=ASKED)], [Message(role="user", content=ASKED)], []
        for turn in range(self.turns):
            request = Request(messages=tuple(sent), sampling=self.sampling, seed=seed + turn * 13, adapter=adapter)
            answer = [event async for event in self.model.stream(request)][-1]
            assert isinstance(answer, Completion)
            turns.append(said(answer, tuple(kept), turn))
            sent.append(
                Sent(
                    role="assistant",
                    content=answer.text,
                    prompt_token_ids=answer.prompt_token_ids,
                    token_ids=answer.token_ids,
                )
            )
            sent.append(Sent(role="user", content="Again."))
            kept += [Message(role="assistant", content=answer.text), Message(role="user", content="Again.")]
        return turns

    def worth(self, agent, reply):
        if reply not in WORDS:
            return -1.0
        return float(reply == self.liked[agent])


def spoken_by_api(turn):
    """A turn of a member whose server gives no ids."""
    messages = (Message(role="user", content=ASKED),)
    return Turn(span_id=f"api-{turn}", messages=messages, reply="red", started_ns=turn, latency_seconds=0.0)


def said(answer, messages, turn):
    return Turn(
        span_id=f"{turn}",
        messages=messages,
        reply=answer.text,
        prompt_token_ids=answer.prompt_token_ids,
        reply_token_ids=answer.token_ids,
        logprobs=answer.logprobs,
        sampling=TurnSampling(temperature=1.0),
        adapter=answer.adapter,
        step=turn,
        started_ns=turn,
        latency_seconds=0.0,
    )


class Shown:
    """Demonstrations of the game of words: any of the three, as often as the other."""

    def __init__(self, turns=2):
        self.turns = turns

    async def episodes(self, adapters, count, seed):
        rng = random.Random(seed)
        return [self._one(rng, f"{seed}-{at}") for at in range(count)]

    async def close(self):
        pass

    def _one(self, rng, episode_id):
        messages, turns = [Message(role="user", content=ASKED)], []
        for at in range(self.turns):
            reply = rng.choice(WORDS)
            turns.append(
                Turn(span_id=str(at), messages=tuple(messages), reply=reply, started_ns=at, latency_seconds=0.0)
            )
            messages += [Message(role="assistant", content=reply), Message(role="user", content="Again.")]
        return Episode(
            episode_id=episode_id,
            run_id="shown",
            environment="words",
            seats=(Seat(seat=0, team="shown"),),
            transcripts=(Transcript(seat=0, node="shown", turns=tuple(turns)),),
        )


class Recorded:
    """Episodes that are there already, the same ones every time, in an order that the seed draws."""

    def __init__(self, episodes):
        self.kept = list(episodes)

    async def episodes(self, adapters, count, seed):
        found = list(self.kept)
        random.Random(seed).shuffle(found)
        return found[:count]

    async def close(self):
        pass


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """A network this small is slower with two; and with other threads than the processes that tests start, sums are
    taken in another order and the last bits of a run differ from theirs.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def forks():
    """Where processes of their own come from."""
    made = Forks()
    yield made
    made.close()


@pytest.fixture(scope="session")
def words_base(tmp_path_factory) -> str:
    """Path of a model of some ten thousand weights with random numbers in them."""
    folder = tmp_path_factory.mktemp("base")
    texts = [ASKED, "Again.", *WORDS] * 4
    sizes = Make(hidden=32, layers=2, heads=4, vocabulary=300, context_tokens=256)
    return str(made(sizes, texts, Path(folder), seed=0))


@pytest.fixture
def own_cache(tmp_path_factory, monkeypatch):
    """A cache folder of this test alone, so that nothing is put into the user's."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ORCHESTRA_CACHE", str(cache))
    return cache


@pytest.fixture
def words(own_cache, words_base):
    """Opens the game for agents and the words they like."""

    def opened(liked, **options):
        return Words(words_base, tuple(liked), liked, **options)

    return opened


@pytest.fixture
def recipe_of(words_base):
    """A recipe for the game of words, with some things otherwise."""

    def made_recipe(agents=("player",), learns=None, **more):
        document = {
            "name": "words",
            "base": {"model": f"local/{words_base}"},
            "agents": {agent: {"rank": 16, "alpha": 32, "learns": learns or {}} for agent in agents},
            "credit": {"estimator": "mars", "aggregation": "turn-mean"},
            "loss": {"name": "clipped"},
            "optimiser": {"learning_rate": 5e-3},
            "steps": {"count": 2, "episodes": 8, "row_tokens": 512},
            "warmup": {"steps": 0, "episodes": 16, "learning_rate": 1e-2},
            "publish": {"name": "local", "settings": {"dtype": "float32", "threads": 1}},
        }
        for key, value in more.items():
            document[key] = {**document[key], **value} if isinstance(document.get(key), dict) else value
        return Recipe.model_validate(document)

    return made_recipe


@pytest.fixture
def base_of(words_base):
    return local_base(words_base)


@pytest.fixture
def doubles():
    """The classes of this file, for tests that make their own."""
    return {"Words": Words, "Shown": Shown, "Recorded": Recorded}


@pytest.fixture
def study_of(base_of):
    """A learner for a network, and what demonstrations teach some of its agents."""

    def made_study(network, recipe, agents=("player",), *, count=6, processes=None, turns=2):
        episodes = asyncio.run(Shown(turns).episodes({}, count, 3))
        written = demonstrations(episodes, base_of, agents, 512)
        learner = Learner(network, recipe.optimiser, 10, processes or Processes())
        return learner, imitated(written, recipe, packs=network.packs, seed=0).studies[0]

    return made_study
