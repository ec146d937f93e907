"""Every command that prints lines honours NO_COLOR and FORCE_COLOR."""

import re

import pytest

from tests.cli.test_report import ROOT, run

FIXTURES = ROOT / "fixtures"
SGR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize(
    "arguments",
    [
        ["diagnose", FIXTURES / "sick" / "stuck-bouncing"],
        ["compare", FIXTURES / "compare" / "good-1", FIXTURES / "compare" / "bad"],
        ["replay", FIXTURES / "sick" / "four-tasks-lr-too-high"],
        ["check", FIXTURES / "check"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_colour_where_it_is_asked_for(arguments):
    words = list(map(str, arguments))
    plain = run(*words).stdout
    assert "\x1b" not in plain
    coloured = run(*words, FORCE_COLOR="1").stdout
    assert "\x1b[" in coloured
    assert [line.rstrip() for line in SGR.sub("", coloured).splitlines()] == plain.splitlines()
    assert run(*words, FORCE_COLOR="1", NO_COLOR="1").stdout == plain
