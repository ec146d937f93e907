"""SARIF, annotations, JUnit and Markdown of a diagnosis, and that each is the same text for the same report."""

import io
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import xmlschema
from markdown_it import MarkdownIt

from tests.report import sample
from tests.report.sarif_schema import sarif_validator
from traindoctor.cli.printing import FORMATS as NAMED
from traindoctor.model import Evidence, Finding, Location
from traindoctor.report.fingerprint import fingerprint
from traindoctor.report.forms import FORMATS, rendered
from traindoctor.report.markdown import code, escaped, fenced
from traindoctor.report.sarif import MAX_RESULTS

JUNIT = xmlschema.XMLSchema(Path(__file__).parents[2] / "fixtures" / "schemas" / "junit-10.xsd")
RUNS = [sample.failed_run, sample.healthy_run, sample.undecided_run, sample.hostile_run]

TEXT = {"type": "object", "properties": {"text": {"type": "string", "minLength": 1}}, "required": ["text"]}


def exactly(required, optional=None):
    properties = {**required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


NATURAL = {"type": "integer", "minimum": 1}
REGION = exactly({"startLine": NATURAL}, {"startColumn": NATURAL, "endLine": NATURAL, "endColumn": NATURAL})
FILE = exactly({"uri": {"type": "string", "pattern": r"^[^/\\:]+(/[^/\\:]+)*$"}, "uriBaseId": {"const": "%SRCROOT%"}})
PLACE = {"physicalLocation": exactly({"artifactLocation": FILE, "region": REGION})}
LEVEL = {"enum": ["error", "warning", "note"]}
#: What SARIF 2.1.0 calls the keys that we write, and what code scanning asks of them: docs.github.com, "SARIF support for code
#: scanning". `sarif_validator` has the whole of it.
SARIF = exactly(
    {
        "$schema": {"pattern": "^https://docs.oasis-open.org/sarif/sarif/v2.1.0/"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 20,
            "items": exactly(
                {
                    "tool": exactly(
                        {
                            "driver": exactly(
                                {
                                    "name": {"const": "traindoctor"},
                                    "version": {"type": "string"},
                                    "semanticVersion": {"pattern": r"^\d+\.\d+\.\d+"},
                                    "informationUri": {"pattern": "^https://"},
                                    "rules": {
                                        "type": "array",
                                        "maxItems": 25_000,
                                        "items": exactly(
                                            {
                                                "id": {"type": "string", "minLength": 1, "maxLength": 255},
                                                "name": {"type": "string", "maxLength": 255},
                                                "shortDescription": TEXT,
                                                "fullDescription": {
                                                    **TEXT,
                                                    "properties": {"text": {"type": "string", "minLength": 1, "maxLength": 1024}},
                                                },
                                                "help": TEXT,
                                                "properties": {
                                                    "type": "object",
                                                    "properties": {
                                                        "tags": {"type": "array", "maxItems": 10},
                                                        "precision": {"enum": ["very-high", "high", "medium", "low"]},
                                                        "problem.severity": {"enum": ["error", "warning", "recommendation"]},
                                                    },
                                                    "required": ["tags", "precision"],
                                                },
                                            },
                                            {
                                                "helpUri": {"pattern": "^https://"},
                                                "defaultConfiguration": exactly({"level": LEVEL}),
                                            },
                                        ),
                                    },
                                }
                            )
                        }
                    ),
                    "automationDetails": exactly({"id": {"pattern": "/$"}}),
                    "columnKind": {"const": "unicodeCodePoints"},
                    "originalUriBaseIds": {"type": "object"},
                    "invocations": {
                        "type": "array",
                        "items": exactly(
                            {
                                "executionSuccessful": {"type": "boolean"},
                                "toolExecutionNotifications": {
                                    "type": "array",
                                    "items": exactly({"level": LEVEL, "message": TEXT}),
                                },
                            }
                        ),
                    },
                    "results": {
                        "type": "array",
                        "maxItems": MAX_RESULTS,
                        "items": exactly(
                            {
                                "ruleId": {"type": "string", "minLength": 1},
                                "ruleIndex": {"type": "integer", "minimum": 0},
                                "level": LEVEL,
                                "message": TEXT,
                                "locations": {"type": "array", "minItems": 1, "maxItems": 1, "items": exactly(PLACE)},
                                "partialFingerprints": {
                                    "type": "object",
                                    "required": ["primaryLocationLineHash"],
                                    "additionalProperties": {"type": "string"},
                                },
                            },
                            {
                                "rank": {"type": "number", "minimum": 0, "maximum": 100},
                                "relatedLocations": {
                                    "type": "array",
                                    "maxItems": 100,
                                    "items": exactly({"id": NATURAL, "message": TEXT, **PLACE}),
                                },
                            },
                        ),
                    },
                }
            ),
        },
    }
)


def hold_against_schemas(made):
    jsonschema.validate(made, SARIF, jsonschema.Draft202012Validator)
    sarif_validator().validate(made)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with the files that the failed run was set by, the working directory in it."""
    (tmp_path / ".git").mkdir()
    here = tmp_path / "a project"
    here.mkdir()
    (here / "config.yaml").write_text("seed: 1\noptimizer:\n  name: adam\n  lr: 0.001\n")
    (here / "train.py").write_text("x\n" * 60)
    (tmp_path.parent / "elsewhere.yaml").write_text("lr: 1\n")
    monkeypatch.chdir(here)
    return here


def report_in(root, *locations, **changes):
    """The failed run as if it lay in a folder, its first finding at these places."""
    one = sample.failed_run()
    first = replace(one.findings[0], locations=locations, **changes)
    run = replace(one.run, root=str(root), name=changes.get("run", one.run.name))
    return sample.report_of(replace(one, run=run, findings=(first, *one.findings[1:])))


def test_the_command_line_knows_the_forms():
    assert NAMED == FORMATS


@pytest.mark.parametrize("form", FORMATS)
def test_each_form_ends_in_a_line_break_and_holds_no_control_character(form):
    made = rendered(sample.report_of(*[run() for run in RUNS]), form)
    assert made.endswith("\n")
    assert not [c for c in made if (ord(c) < 32 and c != "\n") or c in "\u202e\x7f"]
    assert "secret-user" not in made


@pytest.mark.parametrize("form", FORMATS)
def test_no_run_at_all(form):
    made = rendered(sample.report_of(), form)
    if form == "sarif":
        hold_against_schemas(json.loads(made))
    if form == "junit":
        JUNIT.validate(io.StringIO(made))


# -- SARIF ----------------------------------------------------------------------------------------------------------------


def test_sarif_points_at_the_line_that_sets_the_value(repository):
    report = report_in(repository, Location("config.yaml", 3, 9, 3, 13), Location("train.py", 31, 5))
    made = json.loads(rendered(report, "sarif"))
    hold_against_schemas(made)
    (run,) = made["runs"]
    first, second = run["results"]
    assert first["ruleId"] == "TD101"
    assert run["tool"]["driver"]["rules"][first["ruleIndex"]]["id"] == "TD101"
    assert "amsgrad" in run["tool"]["driver"]["rules"][0]["help"]["text"]
    place = first["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "a%20project/config.yaml"
    assert place["region"] == {"startLine": 3, "startColumn": 9, "endLine": 3, "endColumn": 13}
    (other,) = first["relatedLocations"]
    assert other["physicalLocation"]["region"]["startLine"] == 31
    mark = fingerprint(report.runs[0].run, report.runs[0].findings[0])
    assert first["partialFingerprints"] == {"primaryLocationLineHash": f"{mark}:1", "traindoctor/v1": mark}
    assert first["message"]["text"].startswith("Training failed from step")
    assert first["rank"] == 93.0
    assert second["level"] == "warning"
    assert second["locations"][0]["physicalLocation"]["region"] == {"startLine": 31, "startColumn": 1}
    assert str(repository) not in rendered(report, "sarif")


@pytest.mark.parametrize("file", ["gone.yaml", "../../elsewhere.yaml", "x\0y", "n" * 5000, "/etc/passwd", "."])
def test_sarif_leaves_out_what_has_no_file_and_says_so(repository, file):
    report = report_in(repository, Location(file, 1))
    made = json.loads(rendered(report, "sarif"))
    hold_against_schemas(made)
    (run,) = made["runs"]
    assert [one["ruleId"] for one in run["results"]] == ["TD702"]
    (note,) = [n for n in run["invocations"][0]["toolExecutionNotifications"] if "left out" in n["message"]["text"]]
    assert note["level"] == "error"
    assert "no file of the repository sets it: Training failed" in note["message"]["text"]


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("run", RUNS)
def test_sarif_is_valid(run):
    hold_against_schemas(json.loads(rendered(sample.report_of(run()), "sarif")))


def test_sarif_keeps_to_the_limits(repository):
    places = [Location("train.py", 1 + i % 60, 1 + i) for i in range(300)]
    one = report_in(repository, *places).runs[0]
    report = sample.report_of(*[replace(one, run=replace(one.run, name=f"run {i}")) for i in range(40)])
    made = json.loads(rendered(report, "sarif"))
    hold_against_schemas(made)
    results = made["runs"][0]["results"]
    assert len(results) == 80
    assert [one["level"] for one in results] == ["error"] * 40 + ["warning"] * 40
    assert len({one["partialFingerprints"]["primaryLocationLineHash"] for one in results}) == 80


def test_a_rule_of_a_pack_that_is_not_here_describes_itself(repository):
    report = report_in(repository, Location("train.py", 3), code="AC900", name="house-rule", refutation="")
    made = json.loads(rendered(report, "sarif"))
    hold_against_schemas(made)
    rule = made["runs"][0]["tool"]["driver"]["rules"][0]
    assert (rule["id"], rule["help"]["text"]) == ("AC900", "house rule.")


# -- annotations ----------------------------------------------------------------------------------------------------------


def test_annotations_stand_at_the_line_the_worst_first(repository):
    made = rendered(report_in(repository, Location("config.yaml", 3, 9, 3, 13)), "github").splitlines()
    assert len(made) == 2
    head, _, message = made[0].removeprefix("::").partition("::")
    assert head == "error file=a project/config.yaml,line=3,col=9,endLine=3,endColumn=13,title=TD101 second-moment-collapse"
    assert message.startswith("Training failed from step")
    assert "First fix: Raise Adam's eps from 1e-8 to 0.1." in message
    assert made[1].startswith("::warning file=a project/train.py,line=31,col=1,title=TD702 ")


@pytest.mark.usefixtures("repository")
def test_annotations_without_a_file_and_of_the_undecided():
    undecided = replace(sample.undecided_run(), findings=())
    lines = rendered(sample.report_of(sample.failed_run(), undecided, sample.healthy_run()), "github").splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::error", "::warning", "::notice"]
    assert "file=" not in lines[0]
    assert "is undecided" in lines[2]


def test_annotations_are_escaped_and_few(repository):
    (repository / "a,b:c.py").write_text("x\n")
    title = "100% of it: a,b\nis ::error::wrong"
    finding = Finding("TD301", "a,b:c%", "error", 0.9, title, "", locations=(Location("a,b:c.py", 1),))
    one = sample.failed_run()
    run = replace(one.run, root=str(repository))
    sure = [replace(finding, confidence=i / 100) for i in range(14)]
    lines = rendered(sample.report_of(replace(one, run=run, findings=tuple(sure))), "github").splitlines()
    assert len(lines) == 11
    assert lines[0].startswith(
        "::error file=a project/a%2Cb%3Ac.py,line=1,col=1,title=TD301 a%2Cb%3Ac%25::100%25 of it: a,b is ::error"
    )
    assert "confidence 0.13" in lines[0]
    assert lines[-1] == "::notice title=traindoctor::4 more findings: `--format markdown` shows all"


# -- JUnit ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", RUNS)
def test_junit_is_valid(run):
    JUNIT.validate(io.StringIO(rendered(sample.report_of(run()), "junit")))


def test_junit_has_a_suite_a_run_and_a_case_a_cause():
    info = replace(sample.failed_run().findings[1], severity="info", code="TD703")
    failed = replace(sample.failed_run(), findings=(*sample.failed_run().findings, info))
    made = rendered(sample.report_of(sample.healthy_run(), failed), "junit")
    JUNIT.validate(io.StringIO(made))
    root = ET.fromstring(made)
    first, second = root
    assert (first.get("name"), second.get("name")) == ("perceptron-overtrained", "small-gpt")
    assert root.get("tests") == str(int(first.get("tests")) + int(second.get("tests")))
    cases = {case.get("name").split(" ")[0]: case for case in first.findall("testcase")}
    assert len(cases) == int(first.get("tests")) == len(first.findall("testcase"))
    assert (first.get("failures"), first.get("skipped"), root.get("failures")) == ("2", "5", "2")
    failure = cases["TD101"].find("failure")
    assert failure.get("type") == "error"
    assert failure.get("message").startswith("Training failed from step")
    assert "+  eps: 0.1" in failure.text
    assert cases["TD203"].find("skipped").get("message") == "a consequence of TD101 second-moment-collapse"
    assert cases["TD303"].find("skipped").get("message") == "no gradient norm per layer was logged"
    assert cases["TD703"].find("failure") is None
    assert "no-validation" in cases["TD703"].find("system-out").text
    assert list(cases["TD301"]) == []
    assert first.find("properties/property[@name='verdict']").get("value") == "failed"


# -- Markdown -------------------------------------------------------------------------------------------------------------

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
OURS = re.compile(r"</?(details|summary|sub)>")


def tokens(text):
    for token in READER.parse(text):
        yield token
        yield from token.children or ()


def seen(text):
    """What a reader sees: the text without marks."""
    return "".join(t.content for t in tokens(text) if t.type in ("text", "code_inline", "fence"))


@pytest.mark.parametrize("run", RUNS)
def test_nothing_of_a_log_becomes_a_mark(run):
    made = rendered(sample.report_of(run()), "markdown")
    kinds = [t.type for t in tokens(made)]
    assert not {"link_open", "image", "em_open", "s_open", "blockquote_open", "code_block", "hr"} & set(kinds)
    for token in tokens(made):
        if token.type.startswith("html"):
            assert not re.search(r"<(?!/?(details|summary|sub)>)", token.content), token.content
    assert kinds.count("heading_open") == 1


def test_what_is_pasted_says_what_matters():
    made = rendered(sample.report_of(sample.failed_run()), "markdown")
    assert made.startswith("### perceptron-overtrained: failed\n")
    (patch,) = [t for t in tokens(made) if t.type == "fence"]
    assert (patch.info, patch.content) == ("diff", sample.PATCH)
    rows = [line for line in made.splitlines() if line.startswith(("| for", "| against"))]
    assert len(rows) == 5
    assert "| for | 38 |" in rows[0]
    assert made.count("<details>") == made.count("</details>") == 2
    assert "not checked, no checkpoint was given: TD105" in made
    assert "Raise Adam's `eps` from 1e-8 to 0.1" in made


def test_many_runs_are_a_table():
    runs = [replace(sample.failed_run(), run=replace(sample.failed_run().run, name=f"run|{i}")) for i in range(120)]
    made = rendered(sample.report_of(sample.healthy_run(), *runs), "markdown")
    assert made.startswith("**121 runs**: 120 failed, 1 healthy, 21 not in the table\n")
    rows = [t for t in tokens(made) if t.type == "tr_open"]
    assert sum(line.startswith("| run\\|") for line in made.splitlines()) == 100
    assert len(rows) >= 101
    assert "3 of 121 runs are told in full." in made
    assert len(made) < 65_536  # the longest body of an issue


@pytest.mark.parametrize(
    "text",
    [
        "@everyone see #12, acme/repo#3 and GH-7",
        "https://evil.example/?a=b www.evil.example",
        "<script>alert(1)</script> &lt; <!-- x",
        "[a](b) ![c](d) *e* _f_ ~~g~~ `h` | $i$ \\",
        "- item",
        "1. item",
        "12) item",
        "# head",
        "> quote",
        "=== ---",
        "+ plus",
    ],
)
def test_a_hostile_line_is_shown_letter_by_letter(text):
    made = escaped(text)
    assert {t.type for t in tokens(made)} <= {"paragraph_open", "paragraph_close", "inline", "text", "text_special"}
    (inline,) = [t for t in READER.parse(made) if t.type == "inline"]
    shown = "".join(t.content for t in inline.children)
    assert shown.replace("\u200b", "") == text
    assert not re.search(r"@\w|#\d|GH-\d|://\w|www\.", shown)


@pytest.mark.parametrize("text", ["`", "``x`", "a ``` b", "plain", " spaced "])
def test_code_spans_hold_their_backticks(text):
    (span,) = [t for t in tokens(f"see {code(text)} there") if t.type == "code_inline"]
    assert span.content.strip() == text.strip()


def test_no_patch_ends_its_fence():
    patch = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n ```\n-````\n+~~~\n ````\n"
    made = "\n".join(["before", "", *fenced(patch, "diff"), "", "after"])
    (fence,) = [t for t in tokens(made) if t.type == "fence"]
    assert fence.content == patch
    long = fenced("\n".join(map(str, range(1000))), "diff")
    assert len(long) == 203
    assert long[-1] == "(800 more lines)"


def test_backticks_in_evidence_stay_in_their_cell():
    hostile = Evidence(True, "log", "x", "a | b `c | d` ``` e", 1.0, "`|`", "1", "s|\n|t")
    one = sample.failed_run()
    finding = replace(one.findings[0], evidence=(hostile,))
    made = rendered(sample.report_of(replace(one, findings=(finding,))), "markdown")
    assert sum(t.type == "td_open" for t in tokens(made)) == 4
    assert "c | d" in seen(made)
