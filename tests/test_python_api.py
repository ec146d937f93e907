"""`import traindoctor`: the function, the report's own methods, and what a notebook shows of it."""

import inspect
import json
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

import traindoctor
from tests.report import sample
from traindoctor.errors import ConfigError, TraindoctorError, UnreadableInputError
from traindoctor.model import Report
from traindoctor.pipeline import DiagnoseOptions
from traindoctor.pipeline import diagnose as pipeline_diagnose
from traindoctor.report.forms import rendered
from traindoctor.report.frame import COLUMNS
from traindoctor.report.notebook import MOST_RUNS, card, frame

ROOT = Path(__file__).parents[1]
SICK = ROOT / "fixtures" / "sick" / "digits-momentum-lr-too-high"
SOUND = ROOT / "fixtures" / "healthy" / "digits-adam-csv-epochs"
#: Elements without an end tag.
VOID = {"br"}


@pytest.fixture(scope="module")
def report():
    return traindoctor.diagnose(SICK)


@pytest.fixture(scope="module")
def two():
    return traindoctor.diagnose(SOUND, SICK)


def run_of(**changes):
    """Return a report of one run, made by hand, with other fields of its run."""
    one = sample.failed_run()
    return Report((replace(one, run=replace(one.run, **changes)),), "1", (), sample.NAMES)


# -- the names ------------------------------------------------------------------------------------------------------------


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, traindoctor; print([m for m in ('numpy', 'pandas', 'click', 'jinja2', 'dataclasses') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there():
    for name in traindoctor.__all__:
        assert getattr(traindoctor, name) is not None, name
        assert name in dir(traindoctor)
    with pytest.raises(AttributeError, match="no attribute 'diagnosis'"):
        traindoctor.diagnosis  # noqa: B018 -- looked up


def test_a_type_checker_knows_the_names(tmp_path):
    (tmp_path / "use.py").write_text(
        "import traindoctor\n"
        "report = traindoctor.diagnose('logs', tags={'loss': 'a'}, select='TD1')\n"
        "reveal_type(report)\n"
        "reveal_type(report.findings[0].fixes[0].title)\n"
        "traindoctor.diagnose('logs', colour=True)\n"
    )
    made = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "--follow-imports=silent", "use.py"],
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    told = made.stdout
    assert 'Revealed type is "traindoctor.model.Report"' in told
    assert 'Revealed type is "str"' in told or 'Revealed type is "builtins.str"' in told
    assert 'Unexpected keyword argument "colour"' in told
    assert told.count("error:") == 1, told


def test_the_function_has_the_options_of_the_pipeline():
    options = set(inspect.signature(traindoctor.diagnose).parameters) - {"paths", "settings", "progress"}
    assert options == set(DiagnoseOptions.__dataclass_fields__)


# -- the function ---------------------------------------------------------------------------------------------------------


def test_it_says_what_the_pipeline_says(report):
    (ours,), (theirs,) = report.to_dict()["runs"], pipeline_diagnose([SICK]).to_dict()["runs"]
    assert ours.pop("provenance")["command"] == f"traindoctor diagnose {SICK.name}"
    assert theirs.pop("provenance") is None
    assert ours == theirs
    assert report.verdict == "failed"
    assert report.findings[0].code == "TD201"
    assert report.findings[0].fixes[0].settings == {"optimizer.lr": 0.05}


@pytest.mark.parametrize("given", [(str(SICK), SOUND), ([SICK, SOUND],), (iter([SICK, str(SOUND)]),)])
def test_paths_come_alone_or_in_lists(given, two):
    assert sorted(one.run.name for one in traindoctor.diagnose(*given, select="TD2").runs) == sorted(
        one.run.name for one in two.runs
    )


def test_codes_come_as_words_or_lists():
    assert "TD201" not in {f.code for f in traindoctor.diagnose(SICK, ignore=["td201"]).findings}
    assert not [f.code for f in traindoctor.diagnose(SICK, ignore="TD2, td6,").findings if f.code.startswith(("TD2", "TD6"))]
    assert {f.code for f in traindoctor.diagnose(SICK, select="TD201").findings} == {"TD201"}


def test_a_tag_is_given_its_role(tmp_path):
    (tmp_path / "log.csv").write_text("step,alpha\n" + "".join(f"{i},{1 / (1 + i)}\n" for i in range(40)))
    assert traindoctor.diagnose(tmp_path).verdict == "undecided"
    named = traindoctor.diagnose(tmp_path, tags={"loss": "alpha"})
    assert named.runs[0].run.primary["loss"].tag == "alpha"


def test_settings_near_the_path_hold_unless_they_are_left_out(tmp_path):
    (tmp_path / "log.csv").write_text("step,alpha\n" + "".join(f"{i},{1 / (1 + i)}\n" for i in range(40)))
    (tmp_path / "traindoctor.toml").write_text('[tags]\nloss = ["alpha"]\n')
    assert "loss" in traindoctor.diagnose(tmp_path).runs[0].run.primary
    assert "loss" not in traindoctor.diagnose(tmp_path, settings=False).runs[0].run.primary


def test_secrets_of_a_config_are_left_out(tmp_path):
    (tmp_path / "log.csv").write_text("step,loss\n" + "".join(f"{i},{1 / (1 + i)}\n" for i in range(40)))
    (tmp_path / "config.yaml").write_text("optimizer: adam\nlr: 0.1\nwandb_api_key: 0123456789abcdef0123\n")
    told = traindoctor.diagnose(tmp_path)
    assert "0123456789abcdef0123" not in told.to_json() + told.to_html() + str(told.runs[0].run.settings)


def test_progress_is_told(capsys):
    told = []
    traindoctor.diagnose(SOUND, select="TD0", progress=told.append)
    assert [line.split()[0] for line in told] == ["reading", "diagnosing"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "words"),
    [
        ((), {}, UnreadableInputError, "no path was given"),
        (([],), {}, UnreadableInputError, "no path was given"),
        (("nowhere-at-all",), {}, UnreadableInputError, "no such file"),
        ((SICK,), {"format": "cvs"}, ConfigError, "no format that is read"),
        ((SICK,), {"tags": {"losss": "a"}}, ConfigError, "no quantity"),
        ((SICK,), {"select": "TD999"}, TraindoctorError, "no rule"),
    ],
)
def test_what_cannot_be_used_is_named(arguments, options, kind, words):
    with pytest.raises(kind, match=words) as caught:
        traindoctor.diagnose(*arguments, **options)
    assert caught.value.ways_out


# -- the report -----------------------------------------------------------------------------------------------------------


def test_the_worst_run_comes_first(two):
    assert [one.verdict for one in two.runs] == ["healthy", "failed"]
    assert two.verdict == "failed"
    assert {finding.run for finding in two.findings} == {SICK.name}
    assert [f.code for f in two.findings] == [f.code for f in two.runs[1].findings]
    assert Report((), "1").verdict == "undecided"
    assert Report((), "1").findings == ()


def test_its_short_form_is_short(two):
    assert repr(two) == f"<Report: 2 runs, failed, {len(two.findings)} finding{'s' if len(two.findings) > 1 else ''}>"
    assert len(repr(two.runs)) < 300


def test_it_prints_as_the_terminal_does(report):
    from traindoctor.report.text import render_text

    assert f"{report}\n" == render_text(report)
    assert "\x1b" not in str(report)


def test_the_table_has_the_columns_it_states(two):
    table = two.to_frame()
    assert dict(table.dtypes.astype(str)) == COLUMNS
    assert len(table) == len(two.findings) + 1
    first, last = table.iloc[0], table.iloc[-1]
    assert (first["run"], first["code"], first["verdict"]) == (SICK.name, "TD201", "failed")
    assert json.loads(first["settings"]) == {"optimizer.lr": 0.05}
    assert first["onset"] == two.findings[0].segment.onset
    assert last["verdict"] == "healthy"
    assert last[list(COLUMNS)[3:]].isna().all()
    assert set(table.dropna(subset="code")["run"]) == {SICK.name}
    assert pd.concat([table, Report((), "1").to_frame()]).shape == table.shape


def test_every_column_is_documented():
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    for name, dtype in COLUMNS.items():
        assert f"| `{name}` | {dtype} |" in page, name


@pytest.mark.parametrize("suffix", ["html", "json", "jsonl", "md", "sarif", "txt"])
def test_it_is_saved_by_suffix(report, tmp_path, suffix):
    place = tmp_path / f"report.{suffix}"
    report.save(place)
    forms = {"html": report.to_html, "json": report.to_json, "md": report.to_markdown, "txt": lambda: f"{report}\n"}
    made = forms.get(suffix, lambda: rendered(report, suffix))
    assert place.read_text(encoding="utf-8") == made()


def test_the_json_is_that_of_the_command(report, capsys):
    from traindoctor.cli import main

    main(["diagnose", str(SICK), "--format", "json"])
    assert capsys.readouterr().out == report.to_json()


def test_a_saved_report_is_read_back(report, tmp_path):
    report.save(tmp_path / "report.json")
    assert traindoctor.read_report(tmp_path / "report.json").to_json() == report.to_json()


def test_places_that_cannot_be_written_are_named(report, tmp_path):
    with pytest.raises(UnreadableInputError, match="cannot be written"):
        report.to_json(tmp_path / "none" / "report.json")
    with pytest.raises(ConfigError, match="suffix") as caught:
        report.save(tmp_path / "report.doc")
    assert ".html" in caught.value.ways_out[0]
    assert list(tmp_path.iterdir()) == []


def test_a_page_is_opened_from_its_file(report, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    report.to_html(tmp_path / "a page.html", open_in_browser=True)
    assert opened == [(tmp_path / "a page.html").as_uri()]
    with pytest.raises(ConfigError, match="from its file"):
        report.to_html(open_in_browser=True)


# -- notebooks ------------------------------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """Every element with its attributes; whether all are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def harmless(text):
    """Return the elements of a card, which must hold nothing that acts on the notebook around it."""
    elements = Elements(text)
    assert elements.open == []
    for tag, attributes in elements.found:
        assert tag not in {"script", "style", "link", "img", "iframe", "object", "form", "a"}, tag
        assert not {name for name in attributes if name.startswith("on")} | (
            {"style", "class", "id", "href", "src"} & {*attributes}
        )
    return elements


def test_a_card_says_the_verdict_the_loss_and_the_fix(report):
    elements = harmless(report._repr_html_())
    text = " ".join(" ".join(elements.text).split())
    assert SICK.name in text
    assert report.findings[0].fixes[0].title in text
    assert "\n+  lr: 0.05\n" in "".join(elements.text)
    assert [a["role"] for tag, a in elements.found if tag == "svg"] == ["img"]


def test_a_card_takes_the_colours_of_the_notebook(report):
    colours = {a[key] for _, a in harmless(card(report)).found for key in ("fill", "stroke") if key in a}
    assert colours == {"none", "currentColor", "#d0552a"}


def test_a_card_draws_the_fix_only_where_the_replay_claims_it():
    one = sample.failed_run()
    drawn = [element("stroke") for element in paths_of(one)]
    assert drawn == ["#3f86d0", "currentColor"]
    refused = replace(one, replay=replace(one.replay, reproduces=False))
    assert [element("stroke") for element in paths_of(refused)] == ["currentColor"]


def paths_of(run_report):
    """Return how to look up the attributes of each curve of a card."""
    return [a.get for tag, a in harmless(card(Report((run_report,), "1", (), sample.NAMES))).found if tag == "path"]


def test_a_card_of_many_runs_is_small(report):
    many = Report(report.runs * 500, "1", (), report.names)
    made = many._repr_html_()
    assert len(made.encode()) <= 100_000
    assert sum(tag == "tr" for tag, _ in harmless(made).found) == MOST_RUNS + 1
    assert f"and {500 - MOST_RUNS} runs more" in made


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "</div></table>", "x" * 10_000, '"><img src=x onerror=alert(1)>', "\0\u202e"]
)
@pytest.mark.parametrize("n", [1, 3])
def test_hostile_names_are_text(name, n):
    made = run_of(name=name)
    finding = replace(made.runs[0].findings[0], title=name, name=name, fixes=(traindoctor.Fix(name, {name: name}, name * 3),))
    made = Report((replace(made.runs[0], findings=(finding,), summary=name),) * n, "1", (), {"TD101": name})
    shown = card(made)
    harmless(shown)
    assert len(shown.encode()) <= 100_000
    assert "\u202e" not in shown


def test_runs_without_a_loss_have_a_card_too():
    assert "svg" not in {tag for tag, _ in harmless(card(run_of(primary={}))).found}
    assert "No run was found" in card(Report((), "1"))


def test_the_frame_holds_the_page_and_gives_it_no_rights():
    page = '<!doctype html><title>a "b" & c</title><script>1 < 2</script>'
    ((tag, attributes),) = Elements(frame(page, 500).replace("</iframe>", "")).found
    assert (tag, attributes["srcdoc"], attributes["height"]) == ("iframe", page, "500")
    assert attributes["sandbox"] == "allow-scripts allow-downloads"


def test_a_frame_needs_a_notebook(report):
    with pytest.raises(ConfigError, match="no notebook"):
        report.show()


def test_ipython_shows_the_card_the_words_and_the_frame(tmp_path):
    """In an IPython of its own, as the kernel of a notebook runs it."""
    pytest.importorskip("IPython")
    code = f"""
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shown = []
shell.display_pub.publish = lambda data, metadata=None, **_: shown.append(data)
done = shell.run_cell("import traindoctor; report = traindoctor.diagnose({str(SICK)!r}); report", silent=True)
data, _ = shell.display_formatter.format(shell.user_ns["report"])
assert shell.run_cell("report.show(300)").success
json.dump([data, shown], open({str(tmp_path / "shown.json")!r}, "w"))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"IPYTHONDIR": str(tmp_path), "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    data, (frame_shown,) = json.loads((tmp_path / "shown.json").read_text())
    assert {"text/html", "text/markdown", "text/plain"} <= set(data)
    assert "Lower lr from 0.5 to 0.05" in data["text/html"]
    assert data["text/plain"].startswith("<Report: 1 run")
    assert frame_shown["text/html"].startswith("<iframe srcdoc=")
