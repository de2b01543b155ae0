"""`python -m benchmarks` prints every table, `python -m benchmarks NAME [OPTIONS]` those of one module."""

import shlex
import sys
import time
from importlib import import_module

NAMES = ("runtime", "store", "peers", "crowd", "knapsack", "local")
"""Cheapest first; `local` needs the embedded model's weights."""
ON_REQUEST = ("ablations", "adapters", "mars", "office", "play", "proxy", "training")
"""Takes some minutes a seed, so it runs only when it is named."""


def main(arguments: list[str]) -> int:
    """Run what `arguments` name; 2 when there is no such benchmark."""
    chosen, options = (arguments[:1], arguments[1:]) if arguments else (list(NAMES), [])
    if unknown := [name for name in chosen if name not in (*NAMES, *ON_REQUEST)]:
        print(f"no benchmark {unknown[0]!r}; there are {', '.join((*NAMES, *ON_REQUEST))}", file=sys.stderr)
        return 2
    for name in chosen:
        began = time.perf_counter()
        # One at a time: what the embedded model loads would slow the others down.
        benchmark = import_module(f"benchmarks.bench_{name}")
        print(f"`python -m benchmarks {shlex.join([name, *options])}`\n", flush=True)
        benchmark.main(options)
        print(f"({time.perf_counter() - began:.0f} s)\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
