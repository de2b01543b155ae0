import json
import math
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from orchestra.errors import InputError
from orchestra.evaluation.certificate import (
    ArmResult,
    Cash,
    Certificate,
    Interval,
    Optimum,
    Spend,
    read_certificate,
    write_certificate,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "certificate"


def changed(certificate, **fields):
    return Certificate.model_validate(certificate.model_dump() | fields)


def test_a_certificate_survives_its_file(certificate, tmp_path):
    write_certificate(certificate, tmp_path / "out.json")
    assert read_certificate(tmp_path / "out.json") == certificate


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.name)
def test_certificates_of_earlier_versions_still_load_byte_for_byte(path, tmp_path):
    write_certificate(read_certificate(path), tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_the_file_reads_in_the_order_of_interest(certificate):
    order = list(json.loads(certificate.model_dump_json()))
    parts = ["verdict", "team", "success", "headline", "break_even", "components", "optimum", "spend", "settings"]
    assert [name for name in order if name in parts] == parts


def test_every_field_is_documented_in_the_schema_by_its_unit():
    schema = Certificate.model_json_schema()
    assert schema["$defs"]["SpendRow"]["properties"]["paid_usd"]["type"] == "string"
    assert schema["additionalProperties"] is False


def test_cash_is_exact_and_never_a_float():
    money = TypeAdapter(Cash)
    assert money.validate_json('"0.000000001"') == Decimal("0.000000001")
    assert money.dump_json(Decimal("1E-9")) == b'"0.000000001"'
    for text in ("0.1", '"-1"', '"0.0000000001"', '"NaN"'):
        with pytest.raises(ValidationError):
            money.validate_json(text)


def test_a_spend_table_that_misses_the_ledger_by_a_nano_dollar_is_refused(certificate):
    spend = certificate.spend.model_dump()
    spend["settled_usd"] += Decimal("0.000000001")
    with pytest.raises(ValidationError, match="a call belongs to one category"):
        Spend.model_validate(spend)


def test_a_newer_version_is_refused_with_the_way_out(certificate):
    with pytest.raises(ValidationError, match="newer than 1; update orchestra-mas"):
        changed(certificate, schema_version=2)


def test_every_disagreement_is_reported_at_once(certificate):
    twice = (certificate.success[0], *certificate.success[:3])
    with pytest.raises(ValidationError) as caught:
        changed(certificate, success=twice)
    assert "'team' appears twice" in str(caught.value)
    assert "'single agent with components' is compared with but not in `success`" in str(caught.value)


def test_a_certificate_without_a_headline_says_why(certificate):
    with pytest.raises(ValidationError, match="`incomplete` says why"):
        changed(certificate, headline=None, break_even=())
    partial = changed(certificate, headline=None, break_even=(), success=(), incomplete="the search budget ran out")
    assert partial.incomplete == "the search budget ran out"


def test_a_success_outside_its_interval_is_refused(certificate):
    result = certificate.arm("team").model_dump() | {"success": 0.99}
    with pytest.raises(ValidationError, match="lies outside its interval"):
        ArmResult.model_validate(result)


def test_an_interval_upside_down_is_refused():
    with pytest.raises(ValidationError, match="lower end lies above"):
        Interval(low=0.4, high=0.3)


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("gap", 0.5, "gap does not follow"),
        ("ratio", 2.0, "ratio does not follow"),
        ("guarantee", 3.0, "guarantee does not follow"),
        ("lowest_density", None, "give lowest_density and highest_density"),
    ],
)
def test_figures_that_do_not_follow_from_each_other_are_refused(certificate, field, value, complaint):
    with pytest.raises(ValidationError, match=complaint):
        Optimum.model_validate(certificate.optimum.model_dump() | {field: value})


def test_the_guarantee_is_printed_with_what_it_assumes(certificate):
    assert certificate.optimum.guarantee == pytest.approx(math.log(80) + 1)
    assert certificate.optimum.assumption == (
        "the guarantee assumes small prices; here the largest is 0.27 of the budget"
    )


def test_an_arm_that_was_not_measured_is_a_key_error(certificate):
    with pytest.raises(KeyError):
        certificate.arm("nobody")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read certificate .*none\.json.*check the path"):
        read_certificate(tmp_path / "none.json")


def test_every_defect_of_a_file_is_named(certificate, tmp_path):
    content = json.loads(certificate.model_dump_json())
    content["team"]["equipment_usd"] = -1
    content["success"][1]["sucess"] = 0.5
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        read_certificate(file)
    assert "team.equipment_usd" in str(caught.value)
    assert "success.1.sucess" in str(caught.value)
