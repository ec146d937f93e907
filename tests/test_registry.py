import sys
from importlib.metadata import EntryPoint

import pytest

from traindoctor import registry
from traindoctor.errors import RulePackError
from traindoctor.registry import GROUP, load_rules
from traindoctor.rule import API

RULE = """from traindoctor.rule import Cause
CAUSE = Cause("{code}", "made-up-{name}", "made up", "Made up.")
"""


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Return a function that installs a pack: its codes, or nothing of it but the entry point where `init` is None."""
    monkeypatch.syspath_prepend(tmp_path)
    entries = []

    def add(pack, *codes, init=f"API = {API}\n"):
        folder = tmp_path / f"{pack}_train_rules"
        if init is not None:
            folder.mkdir()
            (folder / "__init__.py").write_text(init)
        for code in codes:
            (folder / f"rule_{code.lower()}.py").write_text(RULE.format(code=code, name=code.lower()))
        entries.append(EntryPoint(pack, folder.name, GROUP))

    monkeypatch.setattr(registry, "entry_points", lambda group: [e for e in entries if e.group == group])
    before = set(sys.modules)
    yield add
    for name in set(sys.modules) - before:
        if "_train_rules" in name:
            del sys.modules[name]


def test_the_packs_that_are_installed():
    loaded = load_rules()
    assert loaded.problems == ()
    assert list(loaded.causes) == sorted(loaded.causes)
    assert {"TD101", "TD201", "TD301"} <= set(loaded.causes)
    assert all(code == one.code for code, one in loaded.causes.items())


def test_two_packs_side_by_side(install):
    install("beta", "TD901")
    install("alpha", "TD902", "TD900")
    assert list(load_rules().causes) == ["TD900", "TD901", "TD902"]


def test_a_code_that_two_packs_claim_names_both(install):
    install("beta", "TD900")
    install("alpha", "TD900")
    with pytest.raises(RulePackError, match=r"TD900.*alpha and beta") as error:
        load_rules()
    assert error.value.ways_out


def test_a_pack_that_is_not_there_is_named_and_the_others_load(install):
    install("broken", init=None)
    install("sound", "TD900")
    loaded = load_rules()
    assert list(loaded.causes) == ["TD900"]
    (problem,) = loaded.problems
    assert "broken" in problem
    assert "broken_train_rules" in problem
    assert "ModuleNotFoundError" in problem


@pytest.mark.parametrize(
    ("init", "reason"),
    [
        ("1 / 0\n", "ZeroDivisionError"),
        ("API = \n", "SyntaxError"),
        (f"API = {API + 1}\n", f"interface {API + 1}, this is {API}"),
        ("", "interface unknown"),
    ],
)
def test_a_pack_that_fails_is_named_with_the_reason(install, init, reason):
    install("broken", "TD901", init=init)
    install("sound", "TD900")
    loaded = load_rules()
    assert list(loaded.causes) == ["TD900"]
    (problem,) = loaded.problems
    assert "broken" in problem
    assert reason in problem


def test_a_module_that_fails_takes_its_pack_along(install, tmp_path):
    install("broken", "TD901")
    (tmp_path / "broken_train_rules" / "rule_last.py").write_text("import no_such_module\n")
    install("sound", "TD900")
    loaded = load_rules()
    assert list(loaded.causes) == ["TD900"]
    assert "no_such_module" in loaded.problems[0]


def test_no_pack_at_all(install):  # noqa: ARG001
    with pytest.raises(RulePackError, match="no rule pack is installed"):
        load_rules()


def test_only_broken_packs_is_an_error(install):
    install("broken", init=None)
    with pytest.raises(RulePackError):
        load_rules()
