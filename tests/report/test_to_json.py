import json

import jsonschema
import numpy as np
import pytest

from tests.report import sample
from traindoctor.report.to_json import plain, schema, to_json

RUNS = [sample.failed_run, sample.healthy_run, sample.undecided_run, sample.hostile_run]


@pytest.mark.parametrize("run", RUNS)
def test_the_object_keeps_the_schema(run):
    jsonschema.Draft202012Validator.check_schema(schema())
    made = to_json(sample.report_of(run()))
    jsonschema.validate(made, schema(), jsonschema.Draft202012Validator)
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_the_schema_notices_a_missing_field():
    made = to_json(sample.report_of(sample.failed_run()))
    del made["runs"][0]["findings"][0]["evidence"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(made, schema(), jsonschema.Draft202012Validator)


def test_the_contract_of_the_design():
    made = to_json(sample.report_of(sample.failed_run()))
    assert made["schema_version"] == "1.0"
    assert made["tool"] == {"name": "traindoctor", "version": "0.1.0"}
    run = made["runs"][0]
    assert run["optimizer"]["betas"] == [0.9, 0.999]
    assert run["verdict"] == "failed"
    assert run["not_checked"][0] == {"code": "TD303", "reason": "no gradient norm per layer was logged"}
    finding = run["findings"][0]
    assert finding["code"] == "TD101"
    assert set(finding["segment"]) == {"start", "stop", "onset"}
    assert finding["evidence"][0]["for"] is True
    assert finding["evidence"][-1]["for"] is False
    fix = finding["fixes"][0]
    assert fix["settings"] == {"optimizer.eps": 0.1}
    assert fix["patch"] == sample.PATCH
    assert fix["replay"]["verdict"] == "repairs"
    assert fix["replay"]["after"]["tail_loss_max"] < 1e-9
    assert finding["fixes"][2]["replay"] == {"depth": "none", "verdict": "not tried", "before": {}, "after": {}, "note": ""}


def test_what_json_cannot_hold():
    assert plain([np.float64("nan"), float("inf"), -np.inf, np.int64(3), np.bool_(True), None]) == [
        "NaN",
        "Infinity",
        "-Infinity",
        3,
        True,
        None,
    ]
    assert plain({"a": (1, {2})}) == {"a": [1, [2]]}


def test_no_path_of_the_machine():
    assert "secret-user" not in json.dumps(to_json(sample.report_of(sample.hostile_run())))
    assert "/home/" not in json.dumps(to_json(sample.report_of(sample.failed_run())))
