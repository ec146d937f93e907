"""The reader of plainly written YAML gives what the whole reader gives, or no answer."""

import random
from pathlib import Path

import pytest

from traindoctor.configs.documents import Note, ParseError, whole_yaml
from traindoctor.configs.plain_yaml import plain_entries

FIXTURES = Path(__file__).parents[2] / "fixtures"
CONFIGS = [path for path in sorted(FIXTURES.rglob("*.y*ml")) if path.stat().st_size < 5_000]
PIECES = [
    *" :-#[]{},\"'&*!|>%@`?\n~.",
    "- ",
    ": ",
    " #c",
    "1e-4",
    "é",
    "[a, b]",
    "\n\n",
    "<<: *a\n",
    "---\n",
    "key:\n",
    "- - a\n",
    "x\n",
]


def whole(text: str) -> object:
    """Return what the whole reader makes of a text: its entries and notes, or why it does not parse."""
    notes: list[Note] = []
    try:
        return repr(list(whole_yaml(text, notes))), notes
    except ParseError as error:
        return error.reason


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.relative_to(FIXTURES).as_posix())
def test_fixtures_are_read_alike(path):
    text = path.read_text(encoding="utf-8")
    plain = plain_entries(text)
    assert plain is None or (repr(plain), []) == whole(text)


def test_most_fixtures_are_written_plainly():
    assert sum(plain_entries(path.read_text(encoding="utf-8")) is not None for path in CONFIGS) > len(CONFIGS) / 2


@pytest.mark.parametrize("seed", range(4))
def test_damaged_text_is_read_alike(seed):
    choose = random.Random(seed)
    texts = [path.read_text(encoding="utf-8").splitlines(keepends=True) for path in CONFIGS]
    for _ in range(500):
        lines = choose.choice(texts)
        begin = choose.randrange(len(lines))
        text = "".join(lines[begin : begin + choose.randrange(2, 12)])
        for _ in range(choose.randrange(1, 3)):
            at = choose.randrange(len(text) + 1)
            text = text[:at] + choose.choice(PIECES) + text[at + choose.randrange(2) :]
        plain = plain_entries(text)
        assert plain is None or (repr(plain), []) == whole(text), text


@pytest.mark.parametrize(
    "text",
    [
        "a: &x 1\n",
        "a: !!float 1e-3\n",
        "a:\n  <<: *b\n",
        "a: {b: 1}\n",
        "a: |\n  text\n",
        "a: one\n  two\n",
        "a: 1\na: 2\n",
        "a:\t1\n",
        "a: 'it''s'\n",
        'a: "\\n"\n',
        "- a\n",
        "a: [1, [2]]\n",
        "--- \na: 1\n",
        "a: 1\r\nb: 2\n",
        "? a\n: b\n",
        "a: b: c\n",
        "a: @b\n",
        "a: " + "b " * 5_000,
        "",
    ],
)
def test_for_anything_else_there_is_no_answer(text):
    assert plain_entries(text) is None
