import os

import pytest

from traindoctor.check.discover import Exclude, matches, targets


def names(here, *paths, exclude=()):
    return [target.file for target in targets([here / path for path in paths], here, Exclude(exclude, here))]


def test_folders_give_the_files_that_may_be_checked(tree):
    here = tree(
        **dict.fromkeys(
            (
                "b.py",
                "a.ipynb",
                "c.YAML",
                "d.yml",
                "e.toml",
                "f.json",
                "g.txt",
                "run.sh",
                ".hidden.py",
                ".git/x.py",
                "sub/a.py",
                "sub/.b/x.py",
                "venv/x.py",
                ".venv/x.py",
                "my-env/pyvenv.cfg",
                "my-env/x.py",
                "node_modules/x.json",
                "lib/site-packages/x.py",
                "build/x.py",
                "__pycache__/x.py",
                "x.egg-info/y.json",
                "wandb/run/config.yaml",
                "z/deep/er/x.py",
            ),
            "",
        )
    )
    assert names(here, ".") == ["a.ipynb", "b.py", "c.YAML", "d.yml", "e.toml", "f.json", "sub/a.py", "z/deep/er/x.py"]


def test_what_is_named_is_taken(tree):
    here = tree(**{"run.sh": "", "venv/x.py": "", "a.py": ""})
    paths = [here / name for name in ("run.sh", "venv/x.py", "missing.py", "a.py", "a.py")]
    found = list(targets(paths, here, Exclude(("a.py",), here)))
    assert [one.file for one in found] == ["run.sh", "venv/x.py", "missing.py", "a.py"]
    assert all(one.asked for one in found)
    assert [one.kind for one in found] == ["config", "script", "script", "script"]


def test_each_file_once(tree):
    here = tree(**{"s/a.py": ""})
    assert names(here, "s", "s/a.py", ".", "s/../s/a.py") == ["s/a.py"]
    assert names(here, "s", ".") == ["s/a.py"]


def test_two_dots_behind_a_link_lead_where_the_system_says(tree):
    here = tree(**{"deep/er/x.txt": "", "deep/a.py": "", "a.py": ""})
    (here / "link").symlink_to("deep/er")
    assert names(here, "link/../a.py") == ["link/../a.py"]
    assert names(here, "deep/../a.py") == ["a.py"]


def test_a_link_to_a_folder_is_followed_where_it_is_named(tree):
    here = tree(**{"real/a.py": "", "in/b.py": ""})
    (here / "in/link").symlink_to("../real")
    links = []
    assert [one.file for one in targets([here / "in"], here, links=links)] == ["in/b.py"]
    assert links == [here / "in/link"]
    assert names(here, "in/link") == ["in/link/a.py"]


def test_what_cannot_be_listed_or_looked_up_is_yielded(tree, monkeypatch):
    here = tree(**{"closed/a.py": "", "open/a.py": ""})
    scandir = os.scandir

    def scan(folder):
        if folder == here / "closed":
            raise PermissionError
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", scan)
    assert names(here, ".") == ["closed", "open/a.py"]
    assert names(here, "x" * 5000) == ["x" * 5000]


def test_a_path_outside_is_shown_as_given(tree, tmp_path):
    here = tree(**{"in/a.py": "", "out/b.py": ""}) / "in"
    assert [t.file for t in targets([tmp_path / "out"], here)] == [(tmp_path / "out/b.py").as_posix()]


def test_loops_of_links_end(tree):
    here = tree(**{"s/a.py": ""})
    (here / "s/loop").symlink_to(here)
    (here / "s/b.py").symlink_to("missing.py")
    assert names(here, ".") == ["s/a.py"]


def test_exclude(tree):
    here = tree(**dict.fromkeys(("a.py", "old/a.py", "old/x/b.py", "src/old_a.py", "src/a.py", "src/gen/x.py"), ""))
    assert names(here, ".", exclude=("old",)) == ["a.py", "src/a.py", "src/old_a.py", "src/gen/x.py"]
    assert names(here, ".", exclude=("old_*", "src/gen/")) == ["a.py", "old/a.py", "old/x/b.py", "src/a.py"]


@pytest.mark.parametrize(
    ("pattern", "file", "is_match"),
    [
        ("a.py", "x/a.py", True),
        ("x", "x/a.py", True),
        ("x/", "x/a.py", True),
        ("x/**", "x/y/a.py", True),
        ("./x/*.py", "x/a.py", True),
        ("x/*.py", "y/x/a.py", False),
        ("*.py", "x/a.py", True),
        ("a", "x/a.py", False),
        ("**/a.py", "a.py", True),
        ("x/**/a.py", "x/a.py", True),
        ("x/**/a.py", "x/y/z/a.py", True),
    ],
)
def test_patterns(pattern, file, is_match):
    assert matches((pattern,), file) == is_match
