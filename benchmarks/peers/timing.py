"""What every script of this folder shares: five roles, and how a chain is timed. Runs in the peer's own environment."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

ROLES = tuple(f"You are worker {number} of five. Improve on what you are given." for number in range(1, 6))
"""System prompts of the chain; each agent hears what the one before it said."""
TASK = "What is two plus two?"
Episode = Callable[[], Awaitable[str]]
"""Plays the chain once and returns what the last agent said."""


def measure(episode: Episode) -> None:
    """Time the chain `sys.argv[2]` times, after three that are not counted, and print milliseconds per agent call."""
    episodes = int(sys.argv[2])

    async def timed() -> list[float]:
        found = []
        for number in range(episodes + 3):
            began = time.perf_counter()
            said = await episode()
            assert "ok" in said, said
            if number >= 3:
                found.append(time.perf_counter() - began)
        return found

    report(asyncio.run(timed()))


def measure_blocking(episode: Callable[[], str]) -> None:
    """As `measure`, for a peer without an event loop."""
    found = []
    for number in range(int(sys.argv[2]) + 3):
        began = time.perf_counter()
        said = episode()
        assert "ok" in said, said
        if number >= 3:
            found.append(time.perf_counter() - began)
    report(found)


def report(seconds: list[float]) -> None:
    """Print what was measured as one line of JSON."""
    per_call = sorted(1000 * episode / len(ROLES) for episode in seconds)
    print(
        json.dumps(
            {
                "median_ms": per_call[len(per_call) // 2],
                "slowest_ms": per_call[-1],
                "peak_mib": peak_mib(),
            }
        )
    )


def peak_mib() -> float:
    """Most memory this process ever held, in MiB; `getrusage` would count what its parent held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def url() -> str:
    """Base address of the server, such as `http://127.0.0.1:40123/v1`."""
    return sys.argv[1]
