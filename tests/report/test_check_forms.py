"""The forms of a check's result: JSON by its schema, SARIF by what GitHub reads, annotations, code quality, JUnit."""

import json
import re
import xml.etree.ElementTree as ET
from unicodedata import combining, east_asian_width

import jsonschema
import pytest

from tests.report.sarif_schema import sarif_validator
from traindoctor.check.findings import Found
from traindoctor.check.notebooks import script_of
from traindoctor.check.results import FileResult, NotChecked, Result
from traindoctor.check.sources import Source
from traindoctor.check.suppressions import Remark
from traindoctor.mistake import Edit, Location, Mistake, Repair
from traindoctor.report import check_ci, check_json, check_sarif, sarif
from traindoctor.report.check_text import Hidden, full_lines, summary
from traindoctor.report.lines import plain_text

TEXT = "import torch\nopt.zero_grad(); opt.step()\nopt.step()\n"
CELLS = json.dumps({"cells": [{"cell_type": "code", "source": ["%time\n", "opt.step()"]}]}, indent=1)


def finding(code="TD301", severity="error", file="a b.py", line=2, column=18, stop=28, cell=0, repair=None, related=()):
    place = Location(file, line, column, line, stop, cell)
    return Found(
        code, "zero-grad-missing", Mistake(place, "100% of it: a, b\nis wrong. It costs.", "mend it", severity, repair, related)
    )


@pytest.fixture
def result():
    script = Source("a b.py", "script", TEXT)
    text, notebook = script_of(CELLS)
    repair = Repair("delete it", (Edit(30, 40, ""),), safe=True)
    return Result(
        files=(
            FileResult(
                script,
                findings=(
                    finding(
                        repair=repair, related=((Location("a b.py", 1, 1, 1, 7), "made here"), (Location("c.py", 3), "and there"))
                    ),
                    finding(line=3, column=1, stop=11, severity="warning"),
                ),
                n_silenced=2,
                remarks=(Remark("unused", "a b.py", 1, 3, 0, ("TD301",), "nothing here needs it"),),
            ),
            FileResult(Source("conf.yaml", "config", ""), "hugging-face"),
            FileResult(
                Source("n.ipynb", "notebook", text, notebook=notebook),
                findings=(
                    finding(
                        file="n.ipynb",
                        cell=1,
                        column=1,
                        stop=11,
                        repair=Repair("x", (Edit(text.index("step"), text.index("step") + 4, "go"),)),
                    ),
                ),
            ),
        ),
        not_checked=(NotChecked("d.py", "does not parse", 3), NotChecked("gone.py", "does not exist", asked=True)),
        n_other=4,
        n_links=5,
        problems=("TD999 failed on x.py: KeyError",),
        n_known=1,
    )


def test_json_is_what_its_schema_says(result):
    made = check_json.to_json(result, n_below=3)
    schema = check_json.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(made, schema)
    jsonschema.validate(check_json.to_json(Result()), schema)
    assert made["summary"] == {
        "n_files": 3, "n_other_files": 4,
        "n_links_not_followed": 5, "n_error": 2, "n_warning": 1, "n_info": 0, "n_below_level": 3, "n_silenced": 2,
        "n_in_baseline": 1, "n_fixable": 1,
    }  # fmt: skip
    first = made["files"][0]["findings"][0]
    assert first["title"] == "100% of it: a, b\nis wrong."
    assert [place["file"] for place in first["locations"]] == ["a b.py", "a b.py", "c.py"]
    assert first["fixes"][0]["patch"].startswith("--- a/a b.py\n+++ b/a b.py\n@@")
    assert "opt.go()" in made["files"][2]["findings"][0]["fixes"][0]["patch"]
    assert json.dumps(check_json.to_json(result)) == json.dumps(check_json.to_json(result))


def test_sarif_has_what_github_reads(result, tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    made = check_sarif.to_sarif(result)
    (run,) = made["runs"]
    (rule,) = run["tool"]["driver"]["rules"]
    assert (made["version"], made["$schema"]) == ("2.1.0", sarif.SCHEMA)
    assert rule["id"] == "TD301"
    assert rule["helpUri"].startswith("https://")
    assert all(rule[key]["text"] for key in ("shortDescription", "fullDescription", "help"))
    assert rule["help"]["markdown"]
    assert len(rule["fullDescription"]["text"]) <= 1024
    assert rule["properties"]["precision"] in ("very-high", "high", "medium", "low")
    assert run["automationDetails"]["id"].endswith("/")
    assert [one["level"] for one in run["results"]] == ["error", "error", "warning"]
    first, notebook, _ = run["results"]
    place = first["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "sub/a%20b.py"
    assert place["region"] == {"startLine": 2, "startColumn": 18, "endLine": 2, "endColumn": 28}
    assert first["message"]["text"].startswith("100% of it")
    assert [one["id"] for one in first["relatedLocations"]] == [1, 2]
    change = first["fixes"][0]["artifactChanges"][0]["replacements"][0]
    assert change == {"deletedRegion": {"charOffset": 30, "charLength": 10}, "insertedContent": {"text": ""}}
    line = notebook["locations"][0]["physicalLocation"]["region"]["startLine"]
    assert "opt.step()" in CELLS.splitlines()[line - 1]
    region = notebook["fixes"][0]["artifactChanges"][0]["replacements"][0]
    start, length = region["deletedRegion"].values()
    assert CELLS[:start] + region["insertedContent"]["text"] + CELLS[start + length :] == CELLS.replace("step", "go")
    marks = [one["partialFingerprints"]["primaryLocationLineHash"] for one in run["results"]]
    assert len(set(marks)) == len(marks)
    assert not run["invocations"][0]["executionSuccessful"]
    assert str(tmp_path) not in json.dumps(made)


def test_sarif_is_valid(result):
    assert not list(sarif_validator().iter_errors(check_sarif.to_sarif(result)))
    assert not list(sarif_validator().iter_errors(check_sarif.to_sarif(Result())))
    assert list(sarif_validator().iter_errors({"version": "2.1.0"}))


def test_names_that_no_writer_of_formats_thought_of():
    for name, uri in (
        ("\udcff.py", "%FF.py"),
        ("a%0A::b.py", "a%250A%3A%3Ab.py"),
        ("]]>\n\x1b\u202e.py", "%5D%5D%3E%0A%1B%E2%80%AE.py"),
    ):
        made = Result((FileResult(Source(name, "script", "x\n" * 9), findings=(finding(file=name, line=1, column=1, stop=2),)),))
        (one,) = check_sarif.to_sarif(made)["runs"][0]["results"]
        assert one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri
        ET.fromstring(check_ci.junit(made))
        assert len(check_ci.github(made).splitlines()) == 1
        assert json.loads(check_ci.gitlab(made))[0]["location"]["path"] == name
        assert json.loads(json.dumps(check_json.to_json(made)))["files"][0]["path"] == name


def test_equal_lines_have_fingerprints_of_their_own():
    file = FileResult(
        Source("a.py", "script", "x\n" * 9), findings=tuple(finding(file="a.py", line=n, column=1, stop=2) for n in (1, 2, 3))
    )
    results = check_sarif.to_sarif(Result((file,)))["runs"][0]["results"]
    marks = [one["partialFingerprints"]["primaryLocationLineHash"] for one in results]
    assert [mark.rpartition(":")[2] for mark in marks] == ["1", "2", "3"]
    issues = json.loads(check_ci.gitlab(Result((file,))))
    assert len({issue["fingerprint"] for issue in issues}) == 3


def test_annotations_are_escaped_and_the_worst_come_first(result):
    lines = check_ci.github(result).splitlines()
    assert lines[0] == (
        "::error file=a b.py,line=2,col=18,endLine=2,endColumn=28,title=TD301 zero-grad-missing::"
        "100%25 of it: a, b%0Ais wrong. It costs.%0AMend it."
    )
    assert lines[1].startswith("::error file=n.ipynb,line=")
    assert lines[2].startswith("::warning file=a b.py,line=3,")


def test_no_more_annotations_than_are_shown():
    odd = FileResult(Source("a,b:c.py", "script", "x\n"), findings=tuple(finding(file="a,b:c.py", line=n) for n in range(1, 14)))
    lines = check_ci.github(Result((odd,))).splitlines()
    assert len(lines) == 11
    assert lines[0].startswith("::error file=a%2Cb%3Ac.py,")
    assert "3 more findings" in lines[-1]
    assert check_ci.github(Result()) == ""


def test_code_quality(result):
    issues = json.loads(check_ci.gitlab(result))
    assert [issue["severity"] for issue in issues] == ["critical", "major", "critical"]
    assert all(set(issue) >= {"description", "check_name", "fingerprint", "severity", "location"} for issue in issues)
    assert all(re.fullmatch(r"[0-9a-f]+", issue["fingerprint"]) for issue in issues)
    assert issues[0]["location"] == {"path": "a b.py", "lines": {"begin": 2, "end": 2}}


def test_junit(result):
    root = ET.fromstring(check_ci.junit(result))
    (suite,) = root
    cases = list(suite)
    assert root.tag == "testsuites"
    assert {key: suite.get(key) for key in ("tests", "failures", "errors")} == {"tests": "5", "failures": "3", "errors": "2"}
    assert [case.tag for case in cases] == ["testcase"] * 5
    assert [child.get("type") for child in cases[0]] == ["error", "warning"]
    assert "a b.py:2:18: 100% of it" in cases[0][0].text
    assert [child.tag for child in cases[3]] == ["error"]


def test_the_summary_counts(result):
    assert "".join(words for words, _ in summary(result, Hidden(4, 2), 1)) == (
        "Repaired 1 mistake. Found 2 errors and 1 warning in 3 files "
        "(1 fixable with --fix; 1 more with --unsafe-fixes; 4 more with --level info; 2 silenced by comments; "
        "1 in the baseline; 5 links to folders not followed: name them)."
    )


@pytest.mark.parametrize(
    ("line", "start", "stop", "shown", "under"),
    [
        ("x = 'a'; bad()", 9, 14, "x = 'a'; bad()", "         ^^^^^"),
        ("\tx\tbad()", 3, 8, "    x   bad()", "        ^^^^^"),
        ("x = '日本'; bad()", 10, 15, "x = '日本'; bad()", "            ^^^^^"),
        ("x = 'e\u0301'; bad()", 10, 15, "x = 'e\u0301'; bad()", "         ^^^^^"),
        ("x = 1", 9, 12, "x = 1", "     ^"),
    ],
)
def test_underlines_stand_below(line, start, stop, shown, under):
    source = Source("a.py", "script", line + "\n")
    one = finding(file="a.py", line=1, column=start + 1, stop=stop + 1)
    text = plain_text(full_lines(Result((FileResult(source, findings=(one,)),)), 100)).splitlines()
    at = next(i for i, words in enumerate(text) if words.startswith("   1 | "))
    assert text[at] == f"   1 | {shown}"
    assert text[at + 1] == f"     | {under}"


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("before", ["模" * 300, "a" + "模型" * 9, "e\u0301\t" * 40, "x" * 10_000])
def test_no_line_is_wider_than_the_terminal(before, width):
    line = f"{before} step() {before}"
    file = FileResult(
        Source("a.py", "script", line), findings=(finding(file="a.py", line=1, column=len(before) + 2, stop=len(before) + 8),)
    )
    shown = [text for text in plain_text(full_lines(Result((file,)), width)).splitlines() if " | " in text]
    assert all(cells(text) <= width for text in shown)
    code, under = shown[0], shown[1]
    assert cells(code[: code.index("step()")]) == under.index("^")
    assert under.count("^") == 6


def cells(text):
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def test_long_lines_are_cut_around_the_place():
    line = "x = [" + "1, " * 200 + "bad(), " + "2, " * 200 + "]"
    start = line.index("bad")
    source = Source("a.py", "script", line + "\n")
    one = finding(file="a.py", line=1, column=start + 1, stop=start + 6)
    text = plain_text(full_lines(Result((FileResult(source, findings=(one,)),)), 80)).splitlines()
    at = next(i for i, words in enumerate(text) if words.startswith("   1 | "))
    assert len(text[at]) <= 80
    assert text[at].startswith("   1 | …")
    assert text[at].endswith("…")
    column = text[at].index("bad()")
    assert text[at + 1][column : column + 6] == "^^^^^"


def test_places_of_many_lines_and_of_none():
    source = Source("a.py", "script", "for x in y:\n    pass\nz = 1\n")
    block = Found(
        "TD301",
        "x",
        Mistake(Location("a.py", 1, 1, 2, 9), "a block", severity="error", related=((Location("a.py", 3, 1, 3, 6), "later"),)),
    )
    bare = Found("TD301", "x", Mistake(Location("a.py", 99, 7), "beyond the end", severity="error"))
    text = plain_text(full_lines(Result((FileResult(source, findings=(block, bare)),)), 80))
    assert "   1 | for x in y:\n     | ^^^^^^^^^^^\n   2 |     pass\n   3 | z = 1\n     | ----- later\n" in text
    assert "a.py:99:7: error" in text or "beyond the end" in text
