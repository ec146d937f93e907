"""What traindoctor itself has written lies beside logs, and is none."""

import shutil
from pathlib import Path

import pytest

from traindoctor.cli import main
from traindoctor.errors import UnreadableInputError
from traindoctor.readers.discover import read_runs

RUN = Path(__file__).parents[2] / "fixtures" / "sick" / "digits-lr-too-low-csv"


@pytest.mark.parametrize(
    "arguments",
    [
        ("diagnose", "--format", "json"),
        ("diagnose", "--format", "jsonl"),
        ("diagnose", "--format", "sarif"),
        ("diagnose", "--format", "markdown"),
        ("diagnose", "--format", "junit"),
        ("inspect", "--format", "json"),
        ("replay", "--format", "json"),
        ("check", "--format", "json"),
    ],
)
def test_a_report_beside_the_logs_changes_nothing(arguments, tmp_path, capsys):
    shutil.copytree(RUN, tmp_path / "run")
    alone = read_runs(tmp_path / "run")
    main([arguments[0], str(tmp_path / "run"), *arguments[1:]])
    printed = capsys.readouterr().out
    assert printed
    for name in ("report.json", "report.jsonl", "report.txt"):
        (tmp_path / "run" / name).write_text(printed)
    [run] = read_runs(tmp_path / "run")
    assert [s.tag for s in run.series] == [s.tag for s in alone[0].series]


def test_a_report_that_is_given_as_a_log_is_told_with_the_way_out(tmp_path, capsys):
    main(["diagnose", str(RUN), "--format", "json"])
    (tmp_path / "r.json").write_text(capsys.readouterr().out)
    with pytest.raises(UnreadableInputError, match="is a report of traindoctor") as caught:
        read_runs(tmp_path / "r.json")
    assert caught.value.ways_out == (f"traindoctor report show {tmp_path / 'r.json'}",)
    assert caught.value.__notes__ == [f"try: {caught.value.ways_out[0]}"]


def test_a_page_that_is_given_as_a_log_is_told_too(tmp_path, capsys):
    main(["diagnose", str(RUN), "--html", str(tmp_path / "page.html"), "-q"])
    capsys.readouterr()
    assert main(["diagnose", str(tmp_path / "page.html")]) == 2
    assert "is a report of traindoctor, not a log" in capsys.readouterr().err


def test_a_closed_folder_is_told_and_nothing_of_formats(tmp_path, capsys, monkeypatch):
    (tmp_path / "logs").mkdir()
    is_file, iterdir = Path.is_file, Path.iterdir

    def closed(method, path):
        if "logs" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return method(path)

    monkeypatch.setattr(Path, "is_file", lambda path: closed(is_file, path) if path.parent.name == "logs" else is_file(path))
    monkeypatch.setattr(Path, "iterdir", lambda path: closed(iterdir, path))
    assert main(["diagnose", str(tmp_path / "logs")]) == 2
    told = capsys.readouterr().err
    assert "logs: cannot be read: Permission denied" in told
    assert "SummaryWriter" not in told
