"""The wheel that users install: what is in it, and that it finds the same rules as the source tree."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from traindoctor.registry import load_rules

ROOT = Path(__file__).parents[1]
CODES = """
import traindoctor
from traindoctor.registry import load_rules

rules = load_rules()
print(traindoctor.__file__, *rules.problems, *rules.causes, sep=chr(10))
"""


def run(*command, **options):
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=ROOT)
    (built,) = folder.glob("traindoctor-*.whl")
    return built


def test_everything_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = next(archive.read(n).decode() for n in names if n.endswith("entry_points.txt"))
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "traindoctor").rglob("*.py")}
    modules |= {str(p.relative_to(ROOT / "rules")) for p in (ROOT / "rules" / "traindoctor_rules").rglob("*.py")}
    templates = {str(p.relative_to(ROOT)) for p in (ROOT / "traindoctor" / "report" / "templates").iterdir() if p.is_file()}
    vendored = {str(p.relative_to(ROOT)) for p in (ROOT / "traindoctor" / "report" / "_vendor").rglob("*") if p.is_file()}
    assert templates
    assert vendored
    assert modules | templates | vendored <= names
    assert any(n.endswith(".dist-info/licenses/traindoctor/report/_vendor/uplot/LICENSE") for n in names)
    assert {"traindoctor/report/report.schema.json", "traindoctor/py.typed", "traindoctor_rules/py.typed"} <= names
    assert "traindoctor = traindoctor.cli:main" in entry_points
    assert "[traindoctor.rules]\ncore = traindoctor_rules" in entry_points
    outside = {n.split("/")[0] for n in names} - {"traindoctor", "traindoctor_rules"}
    assert all(n.endswith(".dist-info") for n in outside), outside


def test_the_installed_wheel_finds_the_same_rules(wheel, tmp_path):
    target = tmp_path / "site"
    run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target", str(target), str(wheel))
    environment = {**os.environ, "PYTHONPATH": str(target)}
    place, *found = run("-c", CODES, cwd=tmp_path, env=environment).splitlines()
    assert Path(place).is_relative_to(target)
    assert found == list(load_rules().causes)
