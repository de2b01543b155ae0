import pytest

from orchestra.errors import InputError
from orchestra.execution import Settings


@pytest.mark.parametrize("concurrency", [0, -1])
def test_a_run_in_which_nobody_has_a_turn_is_refused(concurrency):
    with pytest.raises(InputError, match=f"at least 1 episode at once, not {concurrency}"):
        Settings(concurrency=concurrency)
