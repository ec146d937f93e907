"""Texts of event files that hold settings, and those that do not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traindoctor.readers.event_texts import LONGEST_TEXT, parse_mapping, settings_of, value_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "|param|value|\n|-|-|\n|lr|0.0003|\n|env_id|CartPole-v1|\n|cuda|True|",
            {"lr": 3e-4, "env_id": "CartPole-v1", "cuda": True},
        ),
        ("param | value\n--- | :---:\n**lr** | `1e-3`\nbetas | [0.9, 0.999]", {"lr": 1e-3, "betas": [0.9, 0.999]}),
        ('{\n  "lr": 0.1,\n  "optim": {"name": "sgd"}\n}', {"lr": 0.1, "optim": {"name": "sgd"}}),
        ("{'lr': 0.1, 'seed': null}", {"lr": 0.1, "seed": None}),
        ("```yaml\nmodel:\n  width: 3\nlr: 0.1\n```", {"model": {"width": 3}, "lr": 0.1}),
        ("lr: 0.1\nseed: 1\n\nname: a b", {"lr": 0.1, "seed": 1, "name": "a b"}),
        ("lr = 3e-4\nsteps = 100", {"lr": 3e-4, "steps": 100}),
    ],
)
def test_mappings(text: str, expected: dict[str, object]) -> None:
    assert parse_mapping(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "   ", "just words", "- a\n- b", "[1, 2]", "lr: 0.1\nand some words without a colon", "a|b\nc|d", "3", "{broken",
     "!!python/object:os.x {}",
     "a: &x [1]\nb: [*x, *x]", "[" * 5000, "{" * 5000, "a: " + "[" * 5000, "\x00\x01"],
)  # fmt: skip
def test_what_is_no_mapping(text: str) -> None:
    assert parse_mapping(text) == {}


def test_the_tag_decides_and_the_size() -> None:
    text = b"lr: 0.1"
    names = ["config", "hyperparameters/text_summary", "train/args", "Hparams", "run_config"]
    for name in names:
        assert settings_of({name: text}) == {"lr": 0.1}
    for name in ("samples", "notes/text_summary", "generated", "text"):
        assert settings_of({name: text}) == {}
    assert settings_of({"config": text + b" " * LONGEST_TEXT}) == {}


def test_values_of_cells() -> None:
    cells = {
        "1": 1,
        "1.5": 1.5,
        "1e-3": 1e-3,
        "True": True,
        "false": False,
        "None": None,
        "'a'": "a",
        "adam": "adam",
        "(0.9, 0.95)": [0.9, 0.95],
    }
    for cell, value in cells.items():
        assert value_of(cell) == value


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.text(alphabet="|-:{}[]\"'#&*!\n \tab01.,=`~", max_size=60))
def test_no_text_raises(text: str) -> None:
    assert isinstance(parse_mapping(text), dict)
