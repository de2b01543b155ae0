"""`python -m orchestra.cli` is the command `orchestra`, as `torchrun -m orchestra.cli` starts it."""

from orchestra.cli import main

if __name__ == "__main__":
    main()
