"""Each folder of fixtures/formats/configs: one config of a dialect, with every value and origin that must be read."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from traindoctor.configs import dialect_of, load_settings, optimizer_spec, with_defaults
from traindoctor.configs.frameworks import DIALECTS
from traindoctor.configs.inherit import read_config

ROOT = Path(__file__).parents[2] / "fixtures/formats/configs"
CASES = sorted(path.parent.name for path in ROOT.glob("*/expected.json"))


def as_json(value: object) -> object:
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("case", CASES)
def test_every_value_and_its_origin(case: str) -> None:
    folder = ROOT / case
    expected = json.loads((folder / "expected.json").read_text())
    settings, damages = load_settings([folder / expected["file"]], folder)
    assert as_json({name: [one.value, one.origin] for name, one in sorted(settings.items())}) == expected["settings"]
    added = {name: [one.value, one.origin] for name, one in with_defaults(settings).items() if name not in settings}
    assert added == expected["with_defaults"]
    assert [f"{damage.kind}: {damage.detail}" for damage in damages] == expected["notes"]
    spec = optimizer_spec(settings, [])
    if expected["optimizer"] is None:
        assert spec is None
        return
    assert spec is not None
    held = {k: v for k, v in asdict(spec).items() if k not in ("origin", "dialect") and v is not None}
    assert {k: [v, spec.origin[k]] for k, v in held.items()} | {"dialect": spec.dialect} == expected["optimizer"]


@pytest.mark.parametrize("case", CASES)
def test_the_value_stands_at_its_origin(case: str) -> None:
    folder = ROOT / case
    expected = json.loads((folder / "expected.json").read_text())
    for name, (value, origin) in expected["settings"].items():
        place, _, note = origin.partition(" (")
        file, colon, line = place.rpartition(":")
        if not colon:  # the dialect is told by a whole file
            assert name.startswith("dialect"), name
            continue
        text = (folder / file).read_text().splitlines()[int(line) - 1]
        numbers = [float(number) for number in re.findall(r"\d[\d_]*\.?\d*(?:[eE][-+]?\d+)?|\.\d+", text)]
        if note or re.search(r" [*/] ", text) or name == "framework":  # worked out from what stands there
            continue
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert value in numbers or not numbers, (name, value, text)  # none on the line of a key with its value below
        elif isinstance(value, str) and name != "precision":
            assert value.rpartition(".")[2].lower() in text.lower(), (name, value, text)


def test_every_dialect_has_a_fixture() -> None:
    told = {json.loads((ROOT / case / "expected.json").read_text())["settings"].get("dialect", [""])[0] for case in CASES}
    sweep = ROOT / "wandb-sweep/sweep.yaml"
    told.add(dialect_of(read_config(sweep, sweep.parent).entries).name)
    assert {dialect.name for dialect in DIALECTS} <= told
    assert len({dialect.name for dialect in DIALECTS}) == len(DIALECTS)


@pytest.mark.parametrize("case", CASES)
def test_a_dialect_is_told_by_content_not_by_name(case: str) -> None:
    folder = ROOT / case
    expected = json.loads((folder / "expected.json").read_text())
    file = folder / expected["file"]
    named = expected["settings"].get("dialect", [""])[0]
    if named == "Lightning hparams":  # a dump of any mapping
        return
    told = dialect_of(read_config(file, folder).entries).name
    assert told == (named or ("W&B sweep" if case == "wandb-sweep" else ""))
