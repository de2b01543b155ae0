"""An optimiser's step on recorded episodes of several turns: tokens of episode a second, and peak memory.

    python -m benchmarks training [--repeats 3] [--threads 1] [--episodes 8] [--groups 2] [--trl PYTHON] [--memory]

Every contestant trains LoRA over the same base on the same episodes, with forward pass, backward pass, clipping and
AdamW; making episodes is no part of it. Token ids are random: lengths are those of a talk of five to eight turns whose
group shares its opening. They take turns, step by step, and the best of the repeats counts. Time is that of the
processor, since other work on a machine must not decide; with one thread it is what a clock shows on an idle one.
`--trl` names a Python that has `benchmarks/peers/constraints-trl.txt` installed. Every contestant is tried with several
batch sizes; the one that is best at its first step makes the others too, since each holds gigabytes. On a CPU TRL
scores the vocabulary at every position, prompts and padding included, and sums the head's gradients in float32; `head
as on CUDA` makes it score trained positions alone, in bfloat16, as it does there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.table import table
from orchestra.models.local.engine import give_back_memory
from training.samples import AGGREGATIONS, Batch, Span, Strand, packed

MODEL = Path("~/.cache/orchestra/models/smollm2-135m-instruct/dense")
RANK = 16
OPENING_TOKENS = 220
PEACE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
"""The peer tells nobody that it runs."""
TURNS, HEARD_TOKENS, SAID_TOKENS = (5, 8), (40, 80), (10, 50)
"""Least and most."""
ROWS_TOKENS = (1536, 2048, 4096)
TRL_BATCHES = (1, 2, 4)
LENGTHS_TOKENS = (512, 1024, 2048, 4096)


@dataclass(slots=True)
class Contestant:
    """Somebody who trains."""

    title: str
    batches: str
    """How it was told to batch."""
    step: Callable[[], float]
    """Processor seconds of one optimiser's step."""
    close: Callable[[], None] = lambda: None
    seconds: float = float("inf")
    """Best so far."""


def talks(count: int, groups: int, seed: int = 0, vocabulary: int = 49_152) -> list[Strand]:
    """Episodes of random tokens; those of a group share their opening."""
    rng = np.random.default_rng(seed)
    openings = [rng.integers(0, vocabulary, OPENING_TOKENS) for _ in range(groups)]
    made = []
    for number in range(count):
        parts, spans, length = [openings[number % groups]], [], OPENING_TOKENS
        for turn in range(int(rng.integers(TURNS[0], TURNS[1] + 1))):
            heard, said = (int(rng.integers(low, high + 1)) for low, high in (HEARD_TOKENS, SAID_TOKENS))
            parts.append(rng.integers(0, vocabulary, heard + said))
            spans.append(Span(turn=turn, start=length + heard, end=length + heard + said))
            length += heard + said
        ids = np.concatenate(parts)
        logprobs = np.full(sum(span.tokens for span in spans), -float(np.log(vocabulary)))
        made.append(_strand(str(number), ids, tuple(spans), logprobs))
    return made


def turn_by_turn(strands: Sequence[Strand]) -> list[Strand]:
    """A sample for each turn, with everything before it as its prompt."""
    made = []
    for strand in strands:
        begin = 0
        for piece, span in enumerate(strand.spans):
            known = strand.logprobs[begin : begin + span.tokens]
            begin += span.tokens
            made.append(
                replace(strand, token_ids=strand.token_ids[: span.end], spans=(span,), logprobs=known, piece=piece)
            )
    return made


def _strand(name: str, ids: Any, spans: tuple[Span, ...], logprobs: Any) -> Strand:
    return Strand(agent="agent", episode_id=name, seat=0, node="agent", token_ids=ids, spans=spans, logprobs=logprobs)


class Ours:
    """The network and its optimiser."""

    def __init__(self, threads: int) -> None:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        from training.losses import prepared

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        base = AutoModelForCausalLM.from_pretrained(MODEL.expanduser(), dtype=torch.bfloat16)
        how = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear")
        self.network: Any = get_peft_model(base, how)
        assert prepared(self.network)
        self.learnt = [weight for weight in self.network.parameters() if weight.requires_grad]
        self.optimiser = torch.optim.AdamW(self.learnt, lr=1e-6, fused=True)

    def gradients(self, strands: Sequence[Strand], batches: Sequence[Batch], chunk_tokens: int = 256) -> float:
        """Leave the gradients of a step on the weights; its loss."""
        from training.losses import clipped, terms, token_logprobs

        weights = AGGREGATIONS["token-mean"](strands)
        advantages = tuple(strand.along(np.array([(-1.0) ** span.turn for span in strand.spans])) for strand in strands)
        self.optimiser.zero_grad()
        total = 0.0
        for batch in batches:
            scored = token_logprobs(self.network, batch, chunk_tokens=chunk_tokens)
            loss = clipped(scored, terms(batch, weights, advantages=advantages))
            loss.value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            total += float(loss.value.detach())
        return total

    def stepping(self, strands: Sequence[Strand], limit: int, *, share: bool) -> Callable[[], float]:
        """An optimiser's step that times itself, packing included."""
        import torch

        def step() -> float:
            began = time.process_time()
            self.gradients(strands, packed(strands, limit, share_prefixes=share))
            torch.nn.utils.clip_grad_norm_(self.learnt, 1.0)
            self.optimiser.step()
            seconds = time.process_time() - began
            give_back_memory()
            return seconds

        return step


class Trl:
    """TRL's trainer in a process of its own, which begins with the first step: they take gigabytes."""

    def __init__(self, python: str, episodes: Path, batch: int, threads: int, head: str) -> None:
        script = Path(__file__).parent / "peers" / "trl_grpo.py"
        words = [str(episodes), str(MODEL.expanduser()), str(batch), "bfloat16", str(threads), head]
        self._command = [python, str(script), *words]
        self._errors = episodes.with_name(f"trl-{batch}-{head}.log")
        self._environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **PEACE}
        self._process: subprocess.Popen[str] | None = None

    def step(self) -> float:
        """Processor seconds of its next step."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors.open("w"),
                text=True,
                env=self._environment,
            )
            self._line("ready")
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._line(""))

    def close(self) -> None:
        """End it; closing it twice is harmless."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _line(self, beginning: str) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if beginning and line.startswith(beginning):
                return line
            if not beginning and line[0].isdigit():
                return line
        raise RuntimeError(f"TRL's process ended before its step did:\n{self._errors.read_text()[-2000:]}")


def compared(options: argparse.Namespace) -> None:
    """The table of throughput."""
    strands = talks(options.episodes, options.groups)
    alone = turn_by_turn(strands)
    tokens, trained = sum(len(s.token_ids) for s in strands), sum(s.trained for s in strands)
    ours = Ours(options.threads)
    contestants = []
    for limit in ROWS_TOKENS:
        for title, made, share in (
            ("packed strands, prefixes shared", strands, True),
            ("packed strands, prefixes not shared", strands, False),
            ("one sample a turn, packed", alone, False),
        ):
            contestants.append(Contestant(title, f"{limit:,} tokens", ours.stepping(made, limit, share=share)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "episodes.json"
        path.write_text(json.dumps(_recorded(strands, options.groups)), encoding="utf-8")
        for batch in (size for size in TRL_BATCHES if options.trl and options.episodes % size == 0):
            for head, how in (("cpu", ""), ("cuda", ", head as on CUDA")):
                peer = Trl(options.trl, path, batch, options.threads, head)
                title = f"TRL 1.16.0, GRPO, one sequence an episode{how}"
                contestants.append(Contestant(title, f"{batch} episodes", peer.step, peer.close))
        try:
            _take_turns(contestants, options.repeats)
        finally:
            for contestant in contestants:
                contestant.close()
    best: dict[str, Contestant] = {}
    for contestant in contestants:
        held = best.setdefault(contestant.title, contestant)
        best[contestant.title] = min(held, contestant, key=lambda each: each.seconds)
    first = next(iter(best.values())).seconds
    rows = [
        (
            each.title,
            each.batches,
            f"{tokens / each.seconds:,.0f}",
            f"{trained / each.seconds:,.0f}",
            f"{each.seconds / first:.2f}×",
        )
        for each in best.values()
    ]
    print(
        f"{options.episodes} episodes in {options.groups} group(s), {tokens:,} tokens, {trained:,} of them trained; "
        f"{options.threads} thread(s)\n"
    )
    print(table(("", "best batch", "tokens of episode a processor second", "trained tokens", "time"), rows))
    _equal(ours, strands)


def _take_turns(contestants: Sequence[Contestant], repeats: int) -> None:
    """Let everybody make a step, and the best of each title the others."""
    best: dict[str, Contestant] = {}
    for contestant in contestants:
        contestant.seconds = contestant.step()
        before = best.setdefault(contestant.title, contestant)
        faster, slower = sorted((before, contestant), key=lambda each: each.seconds)
        if slower is not faster:
            slower.close()
        best[contestant.title] = faster
    for _ in range(repeats - 1):
        for contestant in best.values():
            contestant.seconds = min(contestant.seconds, contestant.step())


def _recorded(strands: Sequence[Strand], groups: int) -> dict[str, Any]:
    episodes = [
        {
            "group": str(at % groups),
            "token_ids": strand.token_ids.tolist(),
            "spans": [[span.start, span.end] for span in strand.spans],
            "reward": float(at),
        }
        for at, strand in enumerate(strands)
    ]
    return {"rank": RANK, "episodes": episodes}


def _equal(ours: Ours, strands: Sequence[Strand]) -> None:
    """Say how far packing moves the loss and the gradients, beside what bfloat16 moves them by without it."""
    import torch

    from training.samples import unpacked

    def said(batches: Sequence[Batch]) -> tuple[float, Any]:
        loss = ours.gradients(strands, batches)
        return loss, torch.cat([weight.grad.flatten().clone() for weight in ours.learnt if weight.grad is not None])

    def both() -> tuple[tuple[float, Any], tuple[float, Any]]:
        return said(unpacked(strands)), said(packed(strands, ROWS_TOKENS[0]))

    names = ("each strand by itself", "packed, prefixes shared")
    found = [(f"{name}, bfloat16", *one) for name, one in zip(names, both(), strict=True)]
    ours.network.float()
    found = [(f"{name}, float32", *one) for name, one in zip(names, both(), strict=True)] + found
    exact = found[0][2]
    rows = [(name, f"{loss:.6f}", f"{float((slope - exact).norm() / exact.norm()):.2g}") for name, loss, slope in found]
    print(table(("", "loss", "gradients: distance from the first, over its norm"), rows))


def remembered(options: argparse.Namespace) -> None:
    """The table of peak memory, each figure from a process of its own."""
    rows = []
    for length in LENGTHS_TOKENS:
        peaks = []
        for chunk in (256, 10**9):
            command = [sys.executable, "-m", "benchmarks.bench_training", "--threads", str(options.threads)]
            done = subprocess.run(
                [*command, "--peak", str(length), str(chunk)], capture_output=True, text=True, check=True, timeout=900
            )
            peaks.append(f"{float(done.stdout.split()[-1]):,.0f}")
        rows.append((f"{length:,}", *peaks))
    print(table(("tokens of the strand, half trained", "peak above the weights, MB, chunks of 256", "whole"), rows))


def peak(length: int, chunk: int, threads: int) -> float:
    """Megabytes that a step over one strand adds to what the loaded network took."""
    ours = Ours(threads)
    ids = np.random.default_rng(0).integers(0, 49_152, length)
    strand = _strand("0", ids, (Span(turn=0, start=length // 2, end=length),), np.full(length - length // 2, -10.8))
    # Loading takes more for a moment than what stays, so the highest mark is set back to what is held now.
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    ours.gradients([strand], packed([strand], length), chunk)
    ours.optimiser.step()
    return (_memory("VmHWM") - before) / 1024


def _memory(what: str) -> int:
    """Kilobytes of this process, as the kernel counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))


def main(arguments: Sequence[str]) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks training")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--groups", type=int, default=2)
    parser.add_argument("--trl", metavar="PYTHON", help="a Python with TRL installed")
    parser.add_argument("--memory", action="store_true", help="peak memory against length, too")
    parser.add_argument("--peak", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.peak:
        length, chunk = options.peak
        print(peak(length, chunk, options.threads))
        return
    compared(options)
    if options.memory:
        remembered(options)


if __name__ == "__main__":
    main(sys.argv[1:])
