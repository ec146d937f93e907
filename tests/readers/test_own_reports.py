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
