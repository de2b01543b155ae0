"""Training: episodes in, adapters out.

Axes of arrays are named by a letter: `G` seats' turns of a group or batch, `K` turns of one seat in one episode, `T`
tokens. Ragged axes are tuples of arrays, never padding with a magic value. Importing this package loads neither numpy
nor torch.
"""

__all__: list[str] = []
