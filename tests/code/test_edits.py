import pytest

from traindoctor.code.edits import line_after, line_before, moved_after
from traindoctor.code.script import Script


def made(text, *edits):
    for start, stop, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[stop:]
    return text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("if a:\n    f()  # why\n    g()\n", "if a:\n    f()  # why\n    new()\n    g()\n"),
        ("if a:\n    f()", "if a:\n    f()\n    new()"),
        ("if a:\r\n    f()\r\n", "if a:\r\n    f()\r\n    new()\r\n"),
        ("if a:\n\tf(\n\t\t1)\n", "if a:\n\tf(\n\t\t1)\n\tnew()\n"),
    ],
)
def test_a_line_after(text, expected):
    script = Script("a.py", text)
    assert made(text, line_after(script, script.tree.body[0].body[0], "new()")) == expected


def test_a_line_before():
    text = "if a:\n    # first\n    f()\n"
    script = Script("a.py", text)
    assert made(text, line_before(script, script.tree.body[0].body[0], "new()")) == "if a:\n    # first\n    new()\n    f()\n"


def test_a_statement_is_moved_with_its_comment():
    text = "f()  # of f\ng()  # of g\nh()\n"
    script = Script("a.py", text)
    f, g, _ = script.tree.body
    assert made(text, *moved_after(script, f, g)) == "g()  # of g\nf()  # of f\nh()\n"


def test_shared_lines_are_left_alone():
    script = Script("a.py", "f(); g()\nh()\n")
    f, _, h = script.tree.body
    assert line_after(script, f, "new()") is None
    assert line_before(script, f, "new()") is None
    assert moved_after(script, f, h) is None
    assert moved_after(script, h, f) is None
