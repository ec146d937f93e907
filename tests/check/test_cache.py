import pytest

from tests.check.conftest import found
from traindoctor.check import cache as caches
from traindoctor.check import pipeline
from traindoctor.check.cache import Cache, default_folder, digest, signature


@pytest.fixture
def looks(monkeypatch):
    """The files that are really looked at."""
    seen = []
    real = pipeline.Checker.look

    def look(self, source, target, rules):
        seen.append(source.file)
        return real(self, source, target, rules)

    monkeypatch.setattr(pipeline.Checker, "look", look)
    return seen


def test_the_same_file_is_looked_at_once(tree, check, looks, tmp_path):
    tree(
        **{
            "a.py": "import torch\nbad()\n",
            "b.ipynb": '{"cells": [{"cell_type": "code", "source": "import torch\\nbad()"}]}',
            "c.yaml": "optimizer: adam\nlr: 3\n",
        }
    )
    first = check("a.py", "b.ipynb", "c.yaml", cache=tmp_path / "cache")
    again = check("a.py", "b.ipynb", "c.yaml", cache=tmp_path / "cache")
    assert first == again
    assert found(again) == [("TD901", "a.py:2"), ("TD901", "b.ipynb:cell 1:2"), ("TD902", "c.yaml:2")]
    assert looks == ["a.py", "b.ipynb", "c.yaml"]


def test_remarks_and_silence_are_kept(tree, check, tmp_path):
    tree(**{"a.py": "import torch\nbad() # traindoctor: ignore[TD901]\nx = 1 # traindoctor: ignore\n"})
    assert check("a.py", cache=tmp_path / "cache") == check("a.py", cache=tmp_path / "cache")


@pytest.mark.parametrize("change", ["content", "name", "options", "settings", "rules", "helper", "helper gone", "helper new"])
def test_whatever_decides_a_result_is_part_of_its_key(tree, check, looks, tmp_path, monkeypatch, change):
    tree(**{"a.py": "import torch\nfrom helper import f\n", "helper/__init__.py": "bad()\n"})
    assert len(found(check("a.py", cache=tmp_path / "cache"))) == 1
    options = {}
    name = "a.py"
    if change == "content":
        tree(**{"a.py": "import torch\nfrom helper import g\n"})
    elif change == "name":
        (tmp_path / "a.py").rename(tmp_path / "b.py")
        name = "b.py"
    elif change == "options":
        options["ignore"] = ("TD903",)
    elif change == "settings":
        tree(**{"traindoctor.toml": 'ignore = ["TD903"]\n'})
    elif change == "rules":
        monkeypatch.setattr(pipeline, "signature", lambda _folders: "other")
    elif change == "helper":
        tree(**{"helper/__init__.py": "fine()\n"})
    elif change == "helper gone":
        (tmp_path / "helper/__init__.py").unlink()
    elif change == "helper new":
        tree(**{"helper.py": "fine()\n"})
    result = check(name, cache=tmp_path / "cache", **options)
    assert len(looks) == 2
    assert len(found(result)) == (0 if change.startswith("helper") else 1)


def test_a_failing_rule_is_asked_again(tree, check, looks, tmp_path):
    tree(**{"a.py": "import torch\nexplode()\n"})
    for _ in range(2):
        assert check("a.py", cache=tmp_path / "cache").problems
    assert len(looks) == 2


def test_a_config_with_bases_is_read_again(tree, check, looks, tmp_path):
    tree(**{"base.yaml": "lr: 3\n", "a.yaml": "_BASE_: base.yaml\nSOLVER:\n  BASE_LR: 0.1\n  MAX_ITER: 10\n"})
    for _ in range(2):
        check("a.yaml", cache=tmp_path / "cache")
    assert len(looks) == 2


def test_what_is_damaged_is_as_if_it_were_not_there(tree, check, tmp_path):
    tree(**{"a.py": "import torch\nbad()\n"})
    folder = tmp_path / "cache"
    first = check("a.py", cache=folder)
    (entry,) = [path for path in folder.rglob("*") if path.is_file()]
    whole = entry.read_bytes()
    for data in (b"", b"x", whole[:-1], whole[:40], whole[:-3] + b"abc", bytes(len(whole))):
        entry.write_bytes(data)
        assert check("a.py", cache=folder) == first
    assert entry.read_bytes() == whole


def test_a_folder_that_cannot_be_written(tree, check, tmp_path):
    tree(**{"a.py": "import torch\nbad()\n", "taken": "a file"})
    assert len(found(check("a.py", cache=tmp_path / "taken"))) == 1


def test_the_oldest_go(tmp_path, monkeypatch):
    monkeypatch.setattr(caches, "MAX_ENTRIES", 10)
    monkeypatch.setattr(caches, "_COUNTED_AT", "")
    cache = Cache(tmp_path, "")
    for i in range(30):
        cache.put(cache.key(str(i)), {"i": i}, ())
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) <= 10
    assert cache.get(cache.key("29"), lambda _path: "") == {"i": 29}


def test_parts_do_not_run_together():
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("ab") == digest(b"ab")


def test_the_program_is_part_of_it(tmp_path):
    before = signature([str(tmp_path)])
    (tmp_path / "rule.py").write_text("x = 1")
    assert signature([str(tmp_path)]) != before


def test_where_it_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TRAINDOCTOR_CACHE_DIR", raising=False)
    assert default_folder() == tmp_path / "traindoctor"
    monkeypatch.setenv("TRAINDOCTOR_CACHE_DIR", str(tmp_path / "x"))
    assert default_folder() == tmp_path / "x"


def test_a_user_without_a_home_has_none(monkeypatch):
    for name in ("TRAINDOCTOR_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError))
    assert default_folder() is None
