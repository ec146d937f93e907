import pytest

from traindoctor.check.findings import in_script
from traindoctor.code.script import Script
from traindoctor.mistake import Location, Mistake
from traindoctor.registry import load_rules
from traindoctor.rule import Cause

FAULTY = """import torch
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.999, 0.9))
"""
CAUSES = load_rules().causes.values()


def codes(file):
    return [one.code for one in in_script(Script(file, FAULTY), CAUSES)]


@pytest.mark.parametrize("file", ["train.py", "src/latest/contest.py", "testing.py", "tests.py"])
def test_a_script_is_looked_at(file):
    assert "TD105" in codes(file)


TESTS = (
    "test_adam.py",
    "adam_test.py",
    "pkg/tests/build.py",
    "test/build.py",
    "conftest.py",
    "a/unit_test.py",
    "test_utils/a.py",
)


@pytest.mark.parametrize("file", TESTS)
def test_tests_may_do_wrong_on_purpose(file):
    assert codes(file) == []


def test_one_cause_speaks_once_at_one_place():
    cause = Cause("TD999", "made-up", "made up", "Made up.", severity="warning")
    places = [Location("train.py", 2, 5), Location("train.py", 2, 5), Location("train.py", 2, 9), Location("train.py", 1)]

    @cause.in_script("optimizer")
    def look(_script, _limits):
        for i, place in enumerate(places):
            yield Mistake(place, f"message {i}", severity="error" if i == 1 else "")

    found = in_script(Script("train.py", FAULTY), [cause])
    assert [(one.mistake.location.line, one.mistake.message) for one in found] == [
        (1, "message 3"),
        (2, "message 1"),
        (2, "message 2"),
    ]
