"""The speed tables of the README, one module a table; `python -m benchmarks` prints them all."""
