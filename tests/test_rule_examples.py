import re

import pytest

from traindoctor.registry import load_rules
from traindoctor.testing import cases, finds, mistakes, repaired, static_cases

CAUSES = list(load_rules().causes.values())


@pytest.mark.parametrize("case", cases(), ids=str)
def test_example(case):
    found = finds(case.cause, case.example)
    assert found == case.expect_finding


@pytest.mark.parametrize("case", static_cases(), ids=str)
def test_sample(case):
    found = mistakes([case.cause], case.sample)
    assert tuple(sorted({one.mistake.location.line for one in found})) == case.lines, found
    if case.sample.fixed:
        after = repaired([case.cause], case.sample)
        assert after == case.sample.fixed
        assert not mistakes([case.cause], case.sample._replace(text=after))


def test_names_of_examples_are_unique():
    names = [str(case) for case in [*cases(), *static_cases()]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.code)
class TestEveryRule:
    def test_has_examples_of_both_kinds(self, cause):
        if cause.log_rules or cause.config_rules or cause.code_rules:
            assert all(cause.make_examples())
        if cause.script_rules or cause.file_rules:
            assert cause.valid_code
            assert cause.invalid_code

    def test_has_a_statement_and_evidence(self, cause):
        assert cause.statement is not None or cause.script_rules or cause.file_rules
        assert cause.log_rules or cause.config_rules or cause.code_rules or cause.script_rules or cause.file_rules

    def test_explains_itself_with_references(self, cause):
        summary, _, rest = cause.explanation.partition("\n")
        assert summary.endswith(".")
        references = re.search(r"^## References\n(.+)", rest, re.MULTILINE)
        assert references, f"{cause.code} has no references"

    def test_thresholds_have_unit_and_source(self, cause):
        for threshold in cause.thresholds:
            assert threshold.unit, threshold.name
            assert len(threshold.source.split()) >= 2, threshold.name

    def test_code_and_name_have_their_form(self, cause):
        assert re.fullmatch(r"TD\d{3}", cause.code)
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", cause.name)

    def test_speaks_of_causes_that_exist(self, cause):
        known = {c.code for c in CAUSES}
        assert {*cause.explains, *cause.look_alikes} <= known - {cause.code}


def test_names_are_unique():
    names = [cause.name for cause in CAUSES]
    assert len(set(names)) == len(names)
