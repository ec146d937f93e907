"""A unified diff is read back as what it was made from, and applied only where it fits."""

import difflib
import random

import pytest

from traindoctor.diff import DiffError, applied, read_diff, renamed, unified_diff


def test_a_patch_applied_is_what_it_was_made_from():
    draw = random.Random(0)
    for _ in range(300):
        old = [draw.choice(["a\n", "b\n", "\n", "c\r\n", "- x\n", "+ y\n"]) for _ in range(draw.randint(0, 30))]
        new = [line for line in old if draw.random() > 0.1]
        for _ in range(draw.randint(0, 4)):
            new.insert(draw.randint(0, len(new)), f"new {draw.random()}\n")
        for lines in (old, new):
            if lines and draw.random() < 0.3:
                lines[-1] = lines[-1].rstrip("\r\n") + "end"
        made = [
            line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
            for line in difflib.unified_diff(old, new, "a/f.yaml", "b/f.yaml")
        ]
        assert applied("".join(made), {"f.yaml": "".join(old)}) == {"f.yaml": "".join(new)}


def test_a_patch_of_two_files():
    patch = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-1\n+2\n--- a/y\n+++ b/y\n@@ -2,1 +2,2 @@\n b\n+c\n"
    assert applied(patch, {"x": "1\n", "y": "a\nb\n", "z": "-\n"}) == {"x": "2\n", "y": "a\nb\nc\n", "z": "-\n"}


ONE = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-1\n+2\n"


def test_a_diff_without_a_change_changes_nothing():
    assert applied("", {"x": "1"}) == {"x": "1"}


@pytest.mark.parametrize(
    ("text", "files"),
    [("3\n", "x"), ("1\n", "y"), ("", "x"), ("1", "x")],
)
def test_what_does_not_fit_is_refused(text, files):
    with pytest.raises(DiffError):
        applied(ONE, {files: text})


@pytest.mark.parametrize(
    "patch",
    [
        "words\n",
        "words\n" + ONE,
        ONE + "words\n",
        ONE + ONE,
        ONE.replace("b/x", "b/y"),
        ONE.replace("a/x", "/dev/null"),
        ONE.replace("a/x", "x"),
        ONE.replace("@@ -1 +1 @@", "@@ -1,2 +1 @@"),
        ONE.replace("@@ -1 +1 @@", "@@ -1 +1"),
        ONE.replace("+2", "2"),
        "--- a/x\n+++ b/x\n",
        "diff --git a/x b/x\nnew file mode 100755\n" + ONE,
        ONE + "@@ -1 +1 @@\n-1\n+3\n",
    ],
)
def test_what_is_no_change_of_a_file_is_refused(patch):
    with pytest.raises(DiffError):
        applied(patch, {"x": "1\n", "y": "1\n"})


def test_a_line_that_looks_like_a_head_is_a_line():
    old, new = "a\n-- a/y\n++ b/y\nb\n", "a\n++ b/z\nb\n"
    patch = unified_diff("x", old, new)
    assert [one.file for one in read_diff(patch)] == ["x"]
    assert applied(patch, {"x": old, "y": "1"}) == {"x": new, "y": "1"}


@pytest.mark.parametrize("name", ["x", "a b/c.yaml", 'qu"ote', "tab\tnewline\n", "\u00fc/\u20ac.yaml", "back\\slash"])
def test_names_are_read_back_and_changed(name):
    patch = unified_diff(name, "1\n2\n", "1\n3")
    (one,) = read_diff(patch)
    assert one.file == name
    assert one.changed == (("2\n",), ("3",))
    other = renamed(patch, {name: f"runs/{name}"})
    assert read_diff(other)[0].file == f"runs/{name}"
    assert applied(other, {f"runs/{name}": "1\n2\n"}) == {f"runs/{name}": "1\n3"}
    assert renamed(patch, {}) == patch
