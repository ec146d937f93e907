"""The documentation holds: commands print what it shows, its Python runs, its links exist, its tables are today's."""

import contextlib
import functools
import importlib.util
import io
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from traindoctor.registry import load_rules
from traindoctor.testing import cases, finds, mistakes, repaired, static_cases

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "benchmarks").rglob("*.md")),
]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"^ *print\(.*\)  # (.*)$", re.MULTILINE)
LINK = re.compile(r"""\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)\"""")
#: Paths of one machine, and hosts that only one network has. Documentation may name public sites.
MACHINE = re.compile(
    r"(?<![\w.:/-])/(?:work|home|root|Users|mnt|private|opt)/[\w.-]+|\b(?:10(?:\.\d+){3}|192\.168(?:\.\d+){2})\b|\w\.(?:internal|corp|local)\b"
)
#: Invented paths, in tests that look for them in reports.
INVENTED = re.compile(r"/home/(?:someone|secret-user)\b")


def load(path):
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


console = load(ROOT / "docs" / "console.py")
BLOCKS = [(page.name, block) for page in console.pages() for block in console.BLOCK.findall(page.read_text(encoding="utf-8"))]
CODES = [(page.name, code) for page in PAGES for code in PYTHON.findall(page.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Page -> the folder in which its commands are run, one after the other."""

    @functools.cache
    def folder_of(page):
        return console.furnish(tmp_path_factory.mktemp(page.removesuffix(".md")))

    return folder_of


@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=[f"{name}-{i}" for i, (name, _) in enumerate(BLOCKS)])
def test_commands_print_what_is_shown(page, block, folders):
    for command, shown, got in console.outputs(block, folders(page)):
        if shown.strip():
            assert console.agrees(shown, got), (
                f"{command}: run `python docs/console.py --accept` and look at the difference\n{got}"
            )


def test_a_command_that_is_not_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="docker run"):
        list(console.outputs("$ docker run it\n", tmp_path))


def test_what_agrees_and_what_does_not():
    assert console.agrees("a  1.0\n...\nlast", "a\n1.2 b\nc\nd last\n")
    assert not console.agrees("a 1.0", "a 2.0\n")
    assert not console.agrees("step 2,300", "step 2,301\n")
    assert not console.agrees("a\n...\nb", "a\nc\n")


@pytest.mark.parametrize("code", [code for _, code in CODES], ids=[f"{name}-{i}" for i, (name, _) in enumerate(CODES)])
def test_python_runs(code, monkeypatch, tmp_path):
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()
    names = {"__name__": "documentation"}
    with contextlib.redirect_stdout(out):
        exec(compile(code, "documentation", "exec"), names)
    assert out.getvalue().splitlines() == PRINTED.findall(code)
    if "CAUSE" in names:
        cause = names["CAUSE"]
        for case in cases([cause]):
            assert finds(cause, case.example) == case.expect_finding, case.example.name
        for case in static_cases([cause]):
            found = mistakes([cause], case.sample)
            assert tuple(one.mistake.location.line for one in found) == case.lines, case.sample.name
            assert not case.sample.fixed or repaired([cause], case.sample) == case.sample.fixed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_exist(page):
    text = page.read_text(encoding="utf-8")
    anchors = {heading_anchor(line) for line in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    for target in ("".join(found) for found in LINK.findall(re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        if anchor and there.suffix == ".md":
            other = text if there == page else there.read_text(encoding="utf-8")
            known = anchors if there == page else {heading_anchor(line) for line in re.findall(r"^#+ (.*)$", other, re.MULTILINE)}
            assert anchor in known, target


def heading_anchor(heading):
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_catalogue_is_that_of_the_rules():
    make = load(ROOT / "docs" / "make_rules.py")
    assert make.PAGE.read_text(encoding="utf-8") == make.page(), "run `python docs/make_rules.py`"
    assert make.README.read_text(encoding="utf-8") == make.readme(), "run `python docs/make_rules.py`"


def test_every_command_and_cause_is_in_the_readme():
    from traindoctor.cli.commands import COMMANDS

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"traindoctor {name}" in text, name
    for code in load_rules().causes:
        assert code in text, code


def test_no_page_names_a_machine():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=False
    )
    if listed.returncode:
        pytest.skip("no git checkout: which files belong to the repository is not known")
    wrong = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        data = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        if b"\0" in data or name == "tests/test_docs.py":
            continue
        for i, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
            if MACHINE.search(INVENTED.sub("", line)):
                wrong.append(f"{name}:{i}: {line.strip()[:100]}")
    assert not wrong


def test_pictures_are_small():
    pictures = sorted((ROOT / "docs" / "pictures").glob("*.png"))
    assert pictures
    assert all(p.stat().st_size < 300_000 for p in pictures)


def test_importing_the_package_stays_quick():
    """The command's help needs neither NumPy nor the report."""
    code = "import sys, traindoctor.cli; print([m for m in ('numpy', 'jinja2', 'pandas', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
