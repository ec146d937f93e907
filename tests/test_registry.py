import importlib
import pkgutil
import sys
from importlib.metadata import EntryPoint, entry_points

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

    monkeypatch.setattr(registry, "installed_packs", lambda: {entry.name: entry.value for entry in entries})
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


# -- how packs are found ----------------------------------------------------------------------------------------------


def test_packs_are_found_as_importlib_finds_them():
    assert registry.installed_packs() == {entry.name: entry.value for entry in entry_points(group=GROUP)}


def test_a_pack_is_found_by_the_entry_points_of_its_distribution(monkeypatch, tmp_path):
    folder = tmp_path / "acme-1.0.dist-info"
    folder.mkdir()
    (folder / "entry_points.txt").write_text(
        f"[console_scripts]\nacme = acme:main\n[{GROUP}]\nacme = acme_train_rules\n[other]\nx = y\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "missing")])
    assert registry.installed_packs() == {"acme": "acme_train_rules"}


# -- the shelf of check -----------------------------------------------------------------------------------------------

SCRIPT_RULE = """from traindoctor.rule import Cause
CAUSE = Cause("{code}", "made-up-{name}", "made up", "Made up.")
@CAUSE.in_script("backward", "step|optimizer_step")
def look(script, limits):
    return iter(())
"""


def test_the_shelf_has_the_rules_that_look_at_scripts_and_configs():
    shelf = registry.Shelf()
    causes = load_rules().causes
    assert shelf.codes == {code for code, cause in causes.items() if cause.script_rules or cause.file_rules}
    assert shelf.problems == []
    assert {c.code for c in shelf.for_file()} == {code for code, cause in causes.items() if cause.file_rules}


def test_a_rule_is_imported_when_its_words_stand_in_a_text(install, tmp_path):
    install("alpha", "TD900", "TD901")
    folder = tmp_path / "alpha_train_rules"
    (folder / "rule_td900.py").write_text(SCRIPT_RULE.format(code="TD900", name="td900"))
    (folder / "words.py").write_text('INDEX = {"rule_td900": ("TD900", (("backward", "step|optimizer_step"),), False)}')
    shelf = registry.Shelf()
    assert shelf.codes == {"TD900"}
    assert shelf.for_script("loss.backward()") == []
    assert "alpha_train_rules.rule_td900" not in sys.modules
    assert "alpha_train_rules.rule_td901" in sys.modules, "what the index does not know is imported"
    assert [c.code for c in shelf.for_script("loss.backward(); opt.step()")] == ["TD900"]
    assert shelf.for_file() == []


def test_a_rule_that_fails_is_named_and_the_others_are_there(install, tmp_path):
    install("alpha", "TD900", "TD901")
    folder = tmp_path / "alpha_train_rules"
    (folder / "rule_td901.py").write_text(SCRIPT_RULE.format(code="TD901", name="td901"))
    (folder / "rule_td900.py").write_text("1 / 0")
    (folder / "words.py").write_text('INDEX = {"rule_td900": ("TD900", (("step",),), True)}')
    shelf = registry.Shelf()
    assert [c.code for c in shelf.for_script("backward step")] == ["TD901"]
    assert shelf.for_file() == []
    (problem,) = shelf.problems
    assert "rule_td900" in problem
    assert "ZeroDivisionError" in problem


def test_the_index_of_the_built_in_pack_is_that_of_its_rules():
    import traindoctor_rules
    from traindoctor_rules import words

    modules = [
        importlib.import_module(f"traindoctor_rules.{info.name}") for info in pkgutil.iter_modules(traindoctor_rules.__path__)
    ]
    made = {m.__name__.rpartition(".")[2]: tuple(registry.indexed(m.CAUSE)) for m in modules if hasattr(m, "CAUSE")}
    assert made == words.INDEX, "python docs/make_rules.py writes it anew"
