from decimal import Decimal

from orchestra.ledger import Ledger, nano
from training.trainers.books import Compute


def test_a_step_far_longer_than_foreseen_does_not_keep_a_run_from_going_on_with_a_cap():
    entries = []
    compute = Compute(Ledger(None, name="run", sink=entries.append), Decimal(3600))
    compute.pay(compute.reserve("step 1"), "step 1", 500.0)
    again = Ledger(nano(1000), name="run")
    again.replay(entries)
    assert again.spent == nano(500)
    capped = Compute(again, Decimal(3600), last_seconds=100.0)
    capped.pay(capped.reserve("step 2"), "step 2", 400.0)
    assert again.spent == nano(900)


def test_a_step_longer_than_the_money_lasts_is_paid_as_far_as_it_goes():
    compute = Compute(Ledger(nano(200), name="run"), Decimal(3600))
    compute.pay(compute.reserve("step 1"), "step 1", 500.0)
    assert compute.ledger.spent == nano(200)
