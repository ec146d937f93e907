"""The same logs give the same bytes: in another process, from another directory, with other hashes, and in another time zone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parents[2] / "fixtures"
PROGRAM = "import sys; from traindoctor.cli import main; sys.exit(main())"
#: PYTHONHASHSEED, time zone, locale, threads of the arrays, and where the command is called, below the folder of the logs.
SURROUNDINGS = (("1", "UTC", "C.UTF-8", "1", "here"), ("2", "Asia/Tokyo", "C", "2", "some/where/else"))


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("same") / "logs"
    for fixture in ("sick/overtrained-perceptron", "sick/digits-lr-too-low", "sick/stuck-saddle", "healthy/four-tasks"):
        shutil.copytree(FIXTURES / fixture, folder / Path(fixture).name)
    return folder


@pytest.mark.parametrize("which", [".", "overtrained-perceptron"])
def test_json_and_html_of_two_processes_are_the_same(logs, tmp_path, which):
    made = []
    for i, (seed, zone, locale, threads, place) in enumerate(SURROUNDINGS):
        there = tmp_path / place
        there.mkdir(parents=True)
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale, "OMP_NUM_THREADS": threads}
        environment |= {"HOME": str(tmp_path / str(i)), "USER": f"user-{i}", "COLUMNS": str(60 + 40 * i)}
        asked = [str(logs / which) if i else os.path.relpath(logs / which, there), "--format", "json", "--output", "report.json"]
        command = [sys.executable, "-c", PROGRAM, "diagnose", *asked, "--html", "report.html", "-q"]
        done = subprocess.run(command, cwd=there, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
        made.append({path.relative_to(there): path.read_bytes() for path in sorted(there.rglob("report*")) if path.is_file()})
        made[-1] |= {path.relative_to(there): path.read_bytes() for path in sorted(there.glob("report-runs/*"))}
    assert list(made[0]) == list(made[1])
    assert len(made[0]) == (2 if which != "." else 6)
    for path, data in made[0].items():
        assert data == made[1][path], path
