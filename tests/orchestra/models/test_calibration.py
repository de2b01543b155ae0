from dataclasses import replace
from decimal import Decimal

import pytest

from orchestra.models import calibration
from orchestra.models.calibration import Calibration

SPEED = Calibration(
    model="tiny",
    weights_sha256="w",
    dtype="float32",
    device="cpu",
    threads=2,
    batch=16,
    input_tokens_per_second=1000.0,
    output_tokens_per_second=100.0,
    measured_at="2026-01-02T03:04:05+00:00",
)


def machine(read, write, asked):
    """A machine of fixed speeds: seconds of a run, every run noted in `asked`."""

    def run(rows, prompt_tokens, reply_tokens):
        asked.append((rows, prompt_tokens, reply_tokens))
        return rows * (prompt_tokens / read + (reply_tokens - 1) / write)

    return run


@pytest.mark.parametrize(("read", "write"), [(2000.0, 400.0), (50.0, 5.0), (2.0, 0.2)])
def test_both_speeds_are_found_apart(read, write):
    assert calibration.measure(machine(read, write, []), 16) == pytest.approx((read, write), rel=1e-3)


@pytest.mark.parametrize("disturbed", [0.9, 1.0, 1.05])
def test_a_disturbed_measurement_makes_no_reply_nearly_free(disturbed):
    """The longer replies seem to take no longer than those of one token, or less."""

    def run(rows, prompt_tokens, reply_tokens):
        return rows * prompt_tokens / 1000 * (1.0 if reply_tokens == 1 else disturbed)

    read, write = calibration.measure(run, 16)
    assert write <= read * (1 + 1e-9)


def test_a_slow_machine_is_measured_with_less_work():
    fast, slow = [], []
    calibration.measure(machine(5000.0, 500.0, fast), 16)
    calibration.measure(machine(5.0, 0.5, slow), 16)
    assert max(slow)[1] < max(fast)[1]


def test_the_price_follows_from_the_speed_and_names_its_day():
    price = SPEED.price(Decimal("0.36"))
    assert price.cost(10, 1) == 2_000  # 10 tokens read and 1 written take a hundredth of a second each
    assert "measured 2026-01-02" in price.source
    assert "16 at once" in price.source


def test_a_calibration_is_kept_for_its_circumstances_and_weights(tmp_path):
    file = tmp_path / "speed.json"
    other = replace(SPEED, dtype="bfloat16", input_tokens_per_second=5.0)
    SPEED.write(file)
    other.write(file)
    assert calibration.read(file, SPEED.key, "w") == SPEED
    assert calibration.read(file, other.key, "w") == other
    assert calibration.read(file, SPEED.key, "other weights") is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"float32/cpu/2 threads/16 at once": {"weights_sha256": "w"}}'])
def test_a_damaged_file_is_no_calibration(tmp_path, content):
    file = tmp_path / "speed.json"
    file.write_text(content)
    assert calibration.read(file, SPEED.key, "w") is None
