"""How often is a verdict wrong? Exactly, by enumeration, for scores of 0 and 1; by simulation for fractional ones."""

import math

import numpy as np
import pytest

from orchestra.evaluation.intervals import Z, score_statistic
from orchestra.evaluation.paired import decide, verdict_of

WORST = 0.05


def tango(wins, losses, count, difference):
    """Tango 1998, equation 10: the closed form, as a reference."""
    a = 2 * count
    b = -wins - losses + (2 * count - wins + losses) * difference
    c = -losses * difference * (1 - difference)
    lost = (np.sqrt(b * b - 4 * a * c) - b) / (2 * a)
    variance = count * (2 * lost + difference * (1 - difference))
    excess = wins - losses - count * difference
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 1e-12, excess / np.sqrt(variance), np.sign(excess) * np.inf)


def paired(wins, losses, count):
    return np.repeat([1.0, -1.0, 0.0], [wins, losses, count - wins - losses])


def every_outcome(count):
    wins, losses = np.meshgrid(np.arange(count + 1), np.arange(count + 1), indexing="ij")
    possible = wins + losses <= count
    return wins[possible], losses[possible]


def log_factorials(count):
    return np.array([math.lgamma(i + 1) for i in range(count + 1)])


def probabilities(wins, losses, count, win_rate, loss_rate):
    """Of each (wins, losses) among `count` tasks: the trinomial distribution."""
    ties = count - wins - losses
    logs = log_factorials(count)
    total = logs[count] - logs[wins] - logs[losses] - logs[ties]
    for times, rate in ((wins, win_rate), (losses, loss_rate), (ties, max(0.0, 1 - win_rate - loss_rate))):
        total = total + (times * math.log(rate) if rate > 0 else np.where(times > 0, -np.inf, 0.0))
    return np.exp(total)


@pytest.mark.parametrize(("wins", "losses", "count"), [(5, 2, 50), (0, 0, 50), (0, 3, 50), (30, 10, 100), (10, 0, 30)])
@pytest.mark.parametrize("difference", [0.02, 0.1, 0.3])
def test_on_binary_scores_the_statistic_is_tangos(wins, losses, count, difference):
    ours = score_statistic(paired(wins, losses, count), difference, low=-1, high=1)
    assert ours == pytest.approx(float(tango(wins, losses, count, difference)), abs=1e-6)


@pytest.mark.parametrize("margin", [0.01, 0.02, 0.05])
@pytest.mark.parametrize("count", [5, 10, 20, 50, 100, 137, 200, 300])
def test_no_binary_truth_makes_more_than_five_percent_of_verdicts_wrong(count, margin):
    """Exact: all outcomes of `count` tasks, all shares of lost tasks, true differences at the edges of the claims."""
    wins, losses = every_outcome(count)
    better = (tango(wins, losses, count, 1e-12) > Z) & (tango(wins, losses, count, margin) >= -Z)
    single = tango(wins, losses, count, margin) < -Z
    lost_rates = [0.0, *np.geomspace(1e-4, (1 - margin) / 2, 60)]
    for lost in lost_rates:
        level = probabilities(wins, losses, count, lost, lost)  # d = 0, where "team better" is nearest to the truth
        ahead = probabilities(wins, losses, count, lost + margin, lost)  # d = margin, likewise "single agent"
        assert level[better].sum() <= WORST
        assert ahead[single].sum() <= WORST


@pytest.mark.parametrize("count", [50, 100, 200])
def test_simulated_verdicts_are_wrong_in_at_most_five_percent(count):
    """Arms simulated task by task through the public function's decision, success rates near 0 and 1 included."""
    rng, margin, draws = np.random.default_rng(11), 0.02, 4000
    for base in (0.0, 0.01, 0.1, 0.5, 0.9, 0.98):
        for difference in (-0.1, -0.02, 0.0, 0.02, 0.05, 0.2):
            if not 0 <= base + difference <= 1:
                continue
            single = rng.random((draws, count)) < base
            team = rng.random((draws, count)) < base + difference
            wrong = 0
            pairs, times = np.unique(
                np.stack([(team & ~single).sum(1), (single & ~team).sum(1)]), axis=1, return_counts=True
            )
            for (wins, losses), often in zip(pairs.T, times, strict=True):
                verdict = _verdict(paired(wins, losses, count), margin)
                wrong += often * is_wrong(verdict, difference, margin)
            assert wrong / draws <= WORST, (base, difference)


def is_wrong(verdict, difference, margin):
    """As the docstring of `orchestra.evaluation.paired` defines it."""
    if verdict == "team better":
        return difference <= 0
    return verdict == "single agent as good or better" and difference >= margin


def _verdict(differences, margin):
    """The verdict through the statistic alone: the same decision without searching the interval's ends."""
    if score_statistic(differences, margin, low=-1, high=1) < -Z:
        return "single agent as good or better"
    return "team better" if score_statistic(differences, 0.0, low=-1, high=1) > Z else "undecided"


@pytest.mark.parametrize("count", [50, 100])
@pytest.mark.parametrize(
    ("kind", "difference"),
    [("graded", 0.0), ("graded", 0.02), ("rare", 0.0), ("rare", 0.02)],
)
def test_simulated_verdicts_on_fractional_scores_are_wrong_in_at_most_five_percent(kind, difference, count):
    rng, draws = np.random.default_rng(13), 1500
    wrong = 0
    for _ in range(draws):
        if kind == "graded":  # both arms score in quarters around their own level
            noise = rng.choice([-0.25, 0.0, 0.25], size=(2, count))
            values = (0.5 + difference + noise[0]) - (0.5 + noise[1])
        else:  # arms agree on 19 tasks of 20, else differ by any amount
            differ = rng.random(count) < 0.05 + difference
            lowest = -1 + 2 * difference / (0.05 + difference)  # so that the mean is `difference`
            values = np.where(differ, rng.uniform(lowest, 1, count), 0.0)
        wrong += is_wrong(_verdict(values, 0.02), difference, 0.02)
    assert wrong / draws <= WORST


def test_the_verdict_of_the_interval_is_the_verdict_of_the_statistic():
    rng = np.random.default_rng(3)
    for _ in range(40):
        differences = rng.choice([-1.0, 0.0, 1.0], p=[0.05, 0.75, 0.2], size=60) * rng.choice([0.5, 1.0])
        found = verdict_of(differences, margin=0.1)
        assert found.verdict == _verdict(differences, 0.1)
        assert found.verdict == decide(found.difference.low, found.difference.high, 0.1)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_of_fewer_than_five_tasks_nothing_is_decided(count):
    found = verdict_of([1.0] * count, margin=0.02)
    assert found.verdict == "undecided"
    assert found.more_tasks >= 5 - count
