import json
import stat
import subprocess

import pytest

from tests.check.conftest import found
from traindoctor.check.mend import edited, mended, patch_of, together
from traindoctor.check.repairs import write
from traindoctor.check.sources import Source
from traindoctor.diff import unified_diff
from traindoctor.errors import UnreadableInputError
from traindoctor.mistake import Edit, Repair


def test_safe_repairs_alone_unless_all_are_asked_for(tree, check):
    tree(**{"a.py": "import torch\nbad(1)\nworse(2)\n"})
    (change,) = check("a.py", fix="safe").changes
    assert change.after.text == "import torch\ngood(1)\nworse(2)\n"
    assert change.n_repairs == 1


def test_repairs_go_on_until_none_is_left(tree, check):
    tree(**{"a.py": "import torch\nworse(2)\nbad()\n"})
    result = check("a.py", fix="all")
    (change,) = result.changes
    assert change.after.text == "import torch\ngood(2)\ngood()\n"
    assert change.n_repairs == 3
    assert found(result) == []


def test_what_would_no_longer_parse_is_left_alone(tree, check):
    tree(**{"a.py": "import torch\nbreaks()\n"})
    result = check("a.py", fix="safe")
    assert not result.changes
    assert found(result) == [("TD904", "a.py:2")]


def test_silenced_and_ignored_findings_are_not_repaired(tree, check):
    tree(**{"a.py": "import torch\nbad()  # traindoctor: ignore[TD901] -- meant\n", "b.py": "import torch\nbad()\n"})
    assert not check("a.py", fix="safe").changes
    assert not check("b.py", fix="safe", ignore=("TD901",)).changes


def test_configs_are_repaired_in_their_place(tree, check):
    tree(**{"a.yaml": "optimizer: adam   # the usual\nlr:   3 # high\n"})
    (change,) = check("a.yaml", fix="safe").changes
    assert change.after.text == "optimizer: adam   # the usual\nlr:   0.001 # high\n"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_other_byte_stays(tree, check, tmp_path, encoding, end):
    head = f"# coding: {encoding}{end}" if encoding == "latin-1" else ""
    text = f"{head}import torch{end}x = 'ü'; bad(){end}\tlast = 1".replace("\t", "")
    tree(**{"a.py": text.encode(encoding)})
    (change,) = check("a.py", fix="safe").changes
    write(tmp_path / "a.py", change)
    assert (tmp_path / "a.py").read_bytes() == text.replace("bad", "good").encode(encoding)
    assert not check("a.py", fix="safe").changes


def test_permissions_and_links_stay(tree, check, tmp_path):
    tree(**{"real/a.py": "import torch\nbad()\n"})
    (tmp_path / "real/a.py").chmod(0o754)
    (tmp_path / "a.py").symlink_to("real/a.py")
    (change,) = check("a.py", fix="safe").changes
    write(tmp_path / "a.py", change)
    assert (tmp_path / "a.py").is_symlink()
    assert (tmp_path / "real/a.py").read_text() == "import torch\ngood()\n"
    assert stat.S_IMODE((tmp_path / "real/a.py").stat().st_mode) == 0o754
    write(tmp_path / "real/a.py", change)
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["a.py"]


def test_a_place_that_cannot_be_written(tree, check, tmp_path, monkeypatch):
    tree(**{"a.py": "import torch\nbad()\n"})
    (change,) = check("a.py", fix="safe").changes
    monkeypatch.setattr("tempfile.mkstemp", lambda **_: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
    with pytest.raises(UnreadableInputError, match="Read-only"):
        write(tmp_path / "a.py", change)
    assert (tmp_path / "a.py").read_text() == "import torch\nbad()\n"


def test_a_file_that_changed_meanwhile_is_left_alone(tree, check, tmp_path):
    tree(**{"a.py": "import torch\nbad()\n"})
    (change,) = check("a.py", fix="safe").changes
    (tmp_path / "a.py").write_text("bad()  # and more\n")
    with pytest.raises(UnreadableInputError, match="meanwhile"):
        write(tmp_path / "a.py", change)
    assert (tmp_path / "a.py").read_text() == "bad()  # and more\n"


def test_a_read_only_file_is_left_alone(tree, check, tmp_path, monkeypatch):
    tree(**{"a.py": "import torch\nbad()\n"})
    (change,) = check("a.py", fix="safe").changes
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(UnreadableInputError, match="read-only"):
        write(tmp_path / "a.py", change)
    assert (tmp_path / "a.py").read_text() == "import torch\nbad()\n"


def test_a_notebook_is_repaired_in_its_cell(tree, check):
    whole = json.dumps({"cells": [{"cell_type": "code", "source": ["%time\n", "import torch\n", "bad()"]}], "z": 1.0}, indent=2)
    tree(**{"a.ipynb": whole})
    (change,) = check("a.ipynb", fix="safe").changes
    assert change.after.notebook.json_text == whole.replace("bad()", "good()")


@pytest.mark.parametrize(
    "before",
    [
        "x\n" * 20 + "a\nb\nc\n" + "y\n" * 20,
        "b\n" + "x\n" * 20 + "b",
        "x\n" * 5 + "b\n" + "x\n" * 5,
        "a\nb\nc",
        "b",
        "a\r\nb\r\nc\r\n",
        "a\rb\n\x0cc\n",
    ],
)
def test_a_diff_is_one_that_git_applies(tmp_path, before):
    after = before.replace("b", "B\nB")
    for name in ("f", "f g", 'f"\t\\é\n'):
        (tmp_path / name).write_bytes(before.encode())
        diff = unified_diff(name, before, after)
        assert diff is not None
        subprocess.run(["git", "apply", "-"], input=diff.encode(), cwd=tmp_path, check=True)
        assert (tmp_path / name).read_bytes() == after.encode()
    assert unified_diff("f", before, before) is None


def test_a_patch_of_one_repair():
    source = Source("a.py", "script", "bad()\n")
    assert patch_of(source, Repair("x", (Edit(0, 3, "good"),))) == "--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-bad()\n+good()\n"
    assert patch_of(source._replace(text=""), Repair("x", (Edit(0, 3, "good"),))) is None


def test_edits_from_the_last_to_the_first():
    assert edited("abc", [Edit(0, 1, "xx"), Edit(2, 3, "")]) == "xxb"


def test_overlapping_repairs_wait(tree, check):
    tree(**{"a.py": "import torch\nbad(bad())\n"})
    found_ones = check("a.py").files[0].findings
    assert len(together(found_ones)) == 2
    assert mended("import torch\nbad(bad())\n", found_ones) == "import torch\ngood(good())\n"
    twice = [
        found_ones[0],
        found_ones[0]._replace(mistake=found_ones[0].mistake._replace(repair=Repair("y", (Edit(14, 16, "q"),), True))),
    ]
    assert len(together(twice)) == 1
