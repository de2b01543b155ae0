import torch
from hypothesis import given
from hypothesis import strategies as st

from orchestra.models.local.places import LEAST_ROWS, Arena, Shape

SHAPE = Shape(layers=1, heads=1, key_size=1, value_size=1, dtype=torch.float32, device=torch.device("cpu"))


@given(st.lists(st.one_of(st.none(), st.integers(0, 10**6)), max_size=120))
def test_rows_keep_what_is_theirs_as_others_come_and_go_and_little_stays_empty(moves):
    """`None` is somebody who comes; a number says which of those who are there leaves."""
    arena, there = Arena(SHAPE, capacity=2), {}
    for number, move in enumerate(moves, start=1):
        if move is None:
            place = arena.enter()
            arena.keys[:, place.index], arena.values[:, place.index] = float(number), -float(number)
            there[place] = float(number)
        elif there:
            place = list(there)[move % len(there)]
            arena.leave(place, last_length=2)
            del there[place]
        for place, mark in there.items():
            assert (arena.keys[:, place.index] == mark).all()
            assert (arena.values[:, place.index] == -mark).all()
        rows = arena.keys.shape[1]
        assert len(there) <= rows <= max(LEAST_ROWS, 3 * len(there) + 5)
