import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from traindoctor.pipeline import DiagnoseOptions, diagnose
from traindoctor.report import provenance as module
from traindoctor.report.html import render_html
from traindoctor.report.provenance import command_of, digest_of_rules, making_of, provenance_of, with_provenance

LOG = "step,loss\n" + "".join(f"{i},{1.0 / (i + 1)}\n" for i in range(40))
CONFIG = "optimizer:\n  name: sgd\n  lr: 0.1\n"


@pytest.fixture
def logs(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "home" / "secret-user" / "projects" / "baseline"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(LOG, encoding="utf-8")
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return folder


def test_every_file_has_its_size_its_hash_and_its_values(logs):
    report = diagnose([logs])
    made = provenance_of(report.runs[0], making_of([logs], DiagnoseOptions()))
    told = {one.path: one for one in made.inputs}
    assert set(told) == {"metrics.csv", "config.yaml"}
    assert told["metrics.csv"].sha256 == hashlib.sha256(LOG.encode()).hexdigest()
    assert told["metrics.csv"].n_bytes == len(LOG)
    assert told["metrics.csv"].n_values == 40
    assert told["config.yaml"].kind == "settings"
    assert told["config.yaml"].n_values is None
    assert made.folder == ""


def test_doubts_about_a_file_are_counted(logs):
    (logs / "metrics.csv").write_text(LOG + "40,1,2,3\n" + "41,0.02\n", encoding="utf-8")
    report = diagnose([logs])
    assert report.runs[0].run.damages
    [log] = [one for one in provenance_of(report.runs[0], making_of([logs], DiagnoseOptions())).inputs if one.kind == "csv"]
    assert log.n_notes >= 1


def test_a_file_that_is_gone_large_or_far_is_not_hashed(logs, monkeypatch):
    run = diagnose([logs]).runs[0]
    making = making_of([logs], DiagnoseOptions())
    monkeypatch.setattr(module, "LARGEST_HASHED", 100)
    (logs / "config.yaml").unlink()
    large = {one.path: one for one in provenance_of(run, making).inputs}
    assert large["metrics.csv"].sha256.startswith("not hashed: larger than")
    assert large["metrics.csv"].n_bytes == len(LOG)
    assert large["config.yaml"].sha256 == "not hashed: no longer there"
    far = replace(run, run=replace(run.run, root="s3://bucket/runs"))
    assert {one.sha256 for one in provenance_of(far, making).inputs} == {"not hashed: on a remote store"}
    assert {one.n_bytes for one in provenance_of(far, making).inputs} == {None}


def test_a_run_of_many_files_lists_some_of_them(logs):
    run = diagnose([logs]).runs[0]
    run = replace(run, run=replace(run.run, files=tuple(f"part-{i}.csv" for i in range(500))))
    made = provenance_of(run, making_of([logs], DiagnoseOptions()))
    assert len(made.inputs) == module.MOST_FILES
    assert made.n_left_out == 501 - module.MOST_FILES


def test_the_command_names_what_changes_the_result_and_nothing_of_the_machine(logs):
    options = DiagnoseOptions(
        config=logs / "config.yaml", tags={"loss": ("my loss",)}, select=("TD1", "TD2"), ignore=("TD101",), parameters=10
    )
    made = command_of([logs / "metrics.csv", logs], options)
    assert made == (
        "traindoctor diagnose metrics.csv baseline --config config.yaml --tag 'loss=my loss' --parameters 10 "
        "--select TD1,TD2 --ignore TD101"
    )
    assert str(logs) in command_of([logs], DiagnoseOptions(), shows_paths=True)
    assert (
        command_of([Path("home/secret-user/projects/../projects/baseline")], DiagnoseOptions()) == "traindoctor diagnose baseline"
    )
    assert "hunter2" not in command_of(["memory://me:hunter2@host/x"], DiagnoseOptions())


def test_the_hash_of_the_rules_follows_packs_thresholds_and_choice(tmp_path):
    plain = digest_of_rules(DiagnoseOptions())
    assert plain == digest_of_rules(DiagnoseOptions())
    pack = tmp_path / "my_rule.py"
    pack.write_text("API = 1\n", encoding="utf-8")
    seen = {plain, digest_of_rules(DiagnoseOptions(rules=(str(pack),)))}
    pack.write_text("API = 1\n# other\n", encoding="utf-8")
    seen.add(digest_of_rules(DiagnoseOptions(rules=(str(pack),))))
    seen.add(digest_of_rules(DiagnoseOptions(thresholds={"TD101": {"floor": 2.0}})))
    seen.add(digest_of_rules(DiagnoseOptions(select=("TD1",))))
    seen.add(digest_of_rules(DiagnoseOptions(ignore=("TD1",))))
    assert len(seen) == 6


def test_the_page_is_the_same_from_anywhere_and_tells_nothing_of_the_machine(logs, monkeypatch):
    def page(path):
        return render_html(with_provenance(diagnose([path]), making_of([path], DiagnoseOptions())))

    absolute = page(logs)
    relative = page(Path("home/secret-user/projects/baseline"))
    monkeypatch.chdir(logs)
    assert absolute == relative == page(Path())
    assert "secret-user" not in absolute
    shown = render_html(with_provenance(diagnose([logs]), making_of([logs], DiagnoseOptions(), shows_paths=True)))
    assert str(logs) in shown
