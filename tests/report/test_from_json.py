import codecs
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings

from tests.report import made, sample
from traindoctor.errors import UnreadableInputError
from traindoctor.pipeline import diagnose
from traindoctor.report.forms import rendered
from traindoctor.report.from_json import from_json, parse_report, read_report
from traindoctor.report.html import render_html
from traindoctor.report.provenance import making_of, with_provenance
from traindoctor.report.to_json import schema, to_json, to_json_lines

FIXTURES = Path(__file__).parents[2] / "fixtures"
CASES = [
    "sick/overtrained-perceptron",
    "sick/saddle-beta2-one-torch",
    "healthy/four-tasks",
    "damaged/ragged-csv",
    "compare/sweep",
]
RUNS = [sample.failed_run, sample.healthy_run, sample.undecided_run, sample.hostile_run]


@pytest.fixture(scope="module", params=CASES)
def report(request):
    from traindoctor.pipeline import DiagnoseOptions

    paths = [FIXTURES / request.param]
    return with_provenance(diagnose(paths), making_of(paths, DiagnoseOptions()))


def as_text(report):
    return json.dumps(to_json(report), allow_nan=False)


def test_a_diagnosis_comes_back_as_it_was(report):
    back = from_json(json.loads(as_text(report)))
    assert as_text(back) == as_text(report)


@pytest.mark.parametrize("width", [40, 88])
def test_its_text_too_curves_among_it(report, width):
    from traindoctor.report.text import render_text

    assert render_text(from_json(to_json(report)), width) == render_text(report, width)


@pytest.mark.parametrize("form", ["json", "jsonl", "markdown", "junit"])
def test_every_form_is_the_same_after(report, form):
    assert rendered(from_json(to_json(report)), form) == rendered(report, form)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(made.reports)
def test_any_report_comes_back_as_it_was(report):
    stored = to_json(report)
    jsonschema.validate(stored, schema(), jsonschema.Draft202012Validator)
    back = from_json(json.loads(json.dumps(stored, allow_nan=False)))
    assert json.dumps(to_json(back)) == json.dumps(stored)
    lines = "".join(f"{json.dumps(one)}\n" for one in to_json_lines(report))
    if report.runs:
        assert "".join(f"{json.dumps(one)}\n" for one in to_json_lines(parse_report(lines.encode(), "x"))) == lines
        for form in ("text", "markdown", "junit", "github", "sarif"):
            assert rendered(back, form) == rendered(report, form)


def test_a_page_gives_what_json_gives(tmp_path):
    report = sample.report_of(sample.hostile_run())
    file = tmp_path / "report.html"
    file.write_text(render_html(report), encoding="utf-8")
    assert "secret-user" not in file.read_text(encoding="utf-8")
    assert as_text(read_report(file)) == as_text(report)


def test_lines_stand_for_themselves():
    report = sample.report_of(sample.failed_run(), sample.healthy_run())
    lines = rendered(report, "jsonl").splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["perceptron-overtrained", "small-gpt"]
    (alone,) = parse_report(lines[1].encode(), "x").runs
    assert alone.run.name == "small-gpt"
    assert from_json(json.loads(lines[1])).names["TD101"] == "second-moment-collapse"
    assert len(parse_report("\n\n".join(lines).encode(), "x").runs) == 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_what_a_shell_wrote_in_another_encoding(encoding):
    text = as_text(sample.report_of(sample.undecided_run()))
    data = (codecs.BOM_UTF16_LE if encoding == "utf-16-le" else b"") + text.encode(encoding)
    assert as_text(parse_report(data, "x")) == text


def test_an_older_report_without_what_was_added():
    stored = to_json(sample.report_of(sample.failed_run()))
    del stored["rules"]
    for key in ("curve", "roles", "files", "config_files", "code_files", "provenance"):
        del stored["runs"][0][key]
    for tag in stored["runs"][0]["tags"]:
        for key in ("stride", "first", "lowest", "median", "highest", "last", "nan", "infinite"):
            del tag[key]
    back = from_json(stored)
    assert back.runs[0].run.primary["loss"].tag == "train/loss"
    assert "TD101" in rendered(back, "text")


def changed(change):
    stored = to_json(sample.report_of(sample.failed_run()))
    change(stored)
    return json.dumps(stored).encode()


def put(*keys, value):
    def change(stored):
        for key in keys[:-1]:
            stored = stored[key]
        stored[keys[-1]] = value

    return lambda: changed(change)


def whole():
    return as_text(sample.report_of(sample.failed_run())).encode()


FINDING = ("runs", 0, "findings", 0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda: b"", "is empty"),
        (lambda: b" \n", "is empty"),
        (lambda: b"step,loss\n1,2\n", "is not a report of traindoctor"),
        (lambda: b'{"a": 1}', "is not a report of traindoctor"),
        (lambda: b"[1, 2]", "is not a report of traindoctor"),
        (lambda: b'{"tool": {"name": "other"}, "schema_version": "1.0"}', "is not a report of traindoctor"),
        (lambda: b"\xff\xd8\xff\xe0 a picture", "is no text"),
        (lambda: whole()[:5000], "it was cut off"),
        (lambda: whole()[:-1], "it was cut off"),
        (lambda: whole().replace(b'"runs":', b'"runs";', 1), "is no JSON: line 1, column"),
        (lambda: b'{"tool": NaN}', "NaN is no number of JSON"),
        (lambda: b"[" * 200_000, "recursion"),
        (lambda: b'{"a":' * 200_000, "recursion"),
        (lambda: b'{"a": ' + b"1" * 5000 + b"}", "is no JSON that was written by traindoctor"),
        (lambda: b"<!doctype html><title>x</title>", "is a page without findings"),
        (lambda: render_html(sample.report_of(sample.failed_run())).partition('"summary"')[0].encode(), "it was cut off"),
        (lambda: render_html(sample.report_of(sample.failed_run())).partition("<body")[0].encode(), "it was cut off"),
        (put("schema_version", value="2.1"), "version 2.1 of the schema; this traindoctor reads 1.x"),
        (put("schema_version", value=None), "version None"),
        (put("runs", value=[{"name": "x"}]), "another command of traindoctor"),
        (put("runs", value={}), "runs is no list"),
        (put("runs", 0, "verdict", value="dead"), "runs[0].verdict is none of failed, suspicious"),
        (put("runs", 0, "verdict", value=["failed"]), "runs[0].verdict is none of failed"),
        (put("runs", 0, "name", value=3), "runs[0].name is no text"),
        (put("runs", 0, "restarts", value=[1, "2"]), "is no integer"),
        (put("runs", 0, "restarts", value=[2**80]), "is no integer"),
        (put("runs", 0, "checked", value=["TD101", 7]), "runs[0].checked.1 is no text"),
        (put("runs", 0, "tags", 0, "first", value="high"), "runs[0].tags[0].first is no number"),
        (put("runs", 0, "curve", "loss", "steps", value=[1]), "are not as many as the steps"),
        (put("runs", 0, "optimizer", "betas", value=[0.9]), "betas are not two"),
        (put("runs", 0, "optimizer", "lr", value=[0.9]), "lr is no single value"),
        (put("runs", 0, "settings", "optimizer.lr", value=3), "is no object"),
        (put("runs", 0, "replay", "reproduces", value="yes"), "is neither true nor false"),
        (put(*FINDING, "severity", value="fatal"), "findings[0].severity is none of error"),
        (put(*FINDING, "confidence", value=10**400), "confidence is no number"),
        (put(*FINDING, "evidence", 0, value=[]), "evidence[0] is no object"),
        (lambda: changed(lambda stored: stored["runs"][0]["findings"][0].pop("title")), "findings[0].title is missing"),
    ],
)
def test_what_is_no_report_is_told(data, words):
    with pytest.raises(UnreadableInputError) as told:
        parse_report(data(), "stored.json")
    assert words in told.value.what
    assert told.value.where.startswith("stored.json")
    assert told.value.ways_out


def test_a_line_that_is_cut_is_named():
    lines = rendered(sample.report_of(sample.failed_run(), sample.healthy_run()), "jsonl")
    with pytest.raises(UnreadableInputError) as told:
        parse_report(lines[:-50].encode(), "runs.jsonl")
    assert told.value.where == "runs.jsonl, line 2"
    assert "cut off" in told.value.what


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UnreadableInputError, match="cannot be read: No such file"):
        read_report(tmp_path / "nothing.json")


def test_the_same_bytes_from_another_process():
    program = "from tests.report import sample; from traindoctor.report.forms import rendered; import hashlib; "
    program += "report = sample.report_of(sample.hostile_run(), sample.undecided_run()); "
    program += "forms = 'text json jsonl sarif markdown github junit'.split(); "
    program += "print(hashlib.sha256(''.join(rendered(report, form) for form in forms).encode()).hexdigest())"
    made = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(made) == 1


@pytest.mark.parametrize("run", RUNS)
def test_samples(run):
    report = sample.report_of(run())
    assert as_text(from_json(to_json(report))) == as_text(report)
