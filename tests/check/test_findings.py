import pytest

from traindoctor.check.findings import in_script
from traindoctor.code.script import Script
from traindoctor.registry import load_rules

FAULTY = """import torch
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.999, 0.9))
"""
CAUSES = load_rules().causes.values()


def codes(file):
    return [one.code for one in in_script(Script(file, FAULTY), CAUSES)]


@pytest.mark.parametrize("file", ["train.py", "src/latest/contest.py", "testing.py", "tests.py"])
def test_a_script_is_looked_at(file):
    assert "TD105" in codes(file)


@pytest.mark.parametrize("file", ["test_adam.py", "adam_test.py", "pkg/tests/build.py", "test/build.py", "conftest.py"])
def test_tests_may_do_wrong_on_purpose(file):
    assert codes(file) == []
