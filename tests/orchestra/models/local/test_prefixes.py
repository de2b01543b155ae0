import torch
from hypothesis import given
from hypothesis import strategies as st

from orchestra.models.local.prefixes import WORTH_COPYING, Kept, PrefixStore, shared_length


def kept(*token_ids):
    return Kept(tuple(token_ids), (torch.zeros(1, 1, len(token_ids), 8), torch.zeros(1, 1, len(token_ids), 8)))


IDS = st.lists(st.integers(0, 2), max_size=80)


@given(IDS, IDS)
def test_the_shared_length_is_that_of_the_common_beginning(left, right):
    length = shared_length(left, right)
    assert left[:length] == right[:length]
    assert length == min(len(left), len(right)) or left[length] != right[length]


def test_the_longest_beginning_is_found():
    store = PrefixStore(1 << 20)
    for entry in (kept(*range(10)), kept(*range(20)), kept(*range(5, 40))):
        store.add(entry)
    length, found = store.match(tuple(range(15)))
    assert (length, found.token_ids) == (15, tuple(range(20)))


def test_a_match_too_short_to_be_worth_it_is_none():
    store = PrefixStore(1 << 20)
    store.add(kept(*range(WORTH_COPYING - 1), 99))
    assert store.match(tuple(range(50))) == (0, None)


def test_memory_stays_within_its_limit_and_the_least_recently_used_goes_first():
    old, used, new = kept(*range(10)), kept(*range(100, 110)), kept(*range(200, 210))
    store = PrefixStore(2 * old.bytes)
    store.add(old)
    store.add(used)
    store.touch(old)
    store.add(new)
    assert store.bytes <= store.limit_bytes
    assert store.match(tuple(range(10)))[1] is old
    assert store.match(tuple(range(100, 110))) == (0, None)


def test_a_transcript_replaces_the_one_it_grew_from():
    store = PrefixStore(1 << 20)
    short, long = kept(*range(10)), kept(*range(20))
    store.add(short)
    store.add(long, instead_of=short.key)
    assert len(store) == 1


def test_a_transcript_larger_than_the_limit_is_not_kept():
    store = PrefixStore(10)
    store.add(kept(*range(10)))
    assert len(store) == store.bytes == 0
