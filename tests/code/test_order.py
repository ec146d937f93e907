import subprocess
from pathlib import Path

import pytest

from tests.code.scripts import BETWEEN, CLEARS, HEAD, MISSING, SILENT
from traindoctor.code.loops import read_source, training_loops
from traindoctor.code.order import clears_correctly, fix_patch, missing_zero_grad, zero_grad_between
from traindoctor.model import Location, LoopEvent, TrainingLoop

FIXTURES = Path(__file__).parents[2] / "fixtures"


def found(check, source):
    places = [check(loop) for loop in training_loops(source, "train.py")]
    return {place.line for place in places if place is not None}


@pytest.mark.parametrize("name", MISSING)
def test_gradients_that_are_never_cleared(name):
    source, line = MISSING[name]
    assert found(missing_zero_grad, source) == {line}
    assert not found(zero_grad_between, source)
    assert not any(map(clears_correctly, training_loops(source, "train.py")))


@pytest.mark.parametrize("name", BETWEEN)
def test_gradients_that_are_cleared_before_the_step(name):
    source, line = BETWEEN[name]
    assert found(zero_grad_between, source) == {line}
    assert not found(missing_zero_grad, source)
    assert not any(map(clears_correctly, training_loops(source, "train.py")))


@pytest.mark.parametrize("name", CLEARS)
def test_an_order_that_is_right(name):
    source = CLEARS[name]
    assert not found(missing_zero_grad, source)
    assert not found(zero_grad_between, source)
    loops = training_loops(source, "train.py")
    assert len(loops) == 1
    assert all(map(clears_correctly, loops)), loops
    assert fix_patch(source, "train.py", "TD301") is None
    assert fix_patch(source, "train.py", "TD302") is None


@pytest.mark.parametrize("name", SILENT)
def test_a_look_alike_stays_silent(name):
    source = SILENT[name]
    assert not found(missing_zero_grad, source)
    assert not found(zero_grad_between, source)
    assert fix_patch(source, "train.py", "TD301") is None
    assert fix_patch(source, "train.py", "TD302") is None


@pytest.mark.parametrize("script", sorted(FIXTURES.glob("*/*/train.py")), ids=lambda p: p.parent.name)
def test_the_scripts_of_the_fixtures(script):
    loops = training_loops(read_source(script), "train.py")
    assert len(loops) == 1
    assert (missing_zero_grad(loops[0]) is not None) == script.parent.name.startswith("line-no-zero-grad")
    assert (zero_grad_between(loops[0]) is not None) == (script.parent.name == "digits-zero-grad-before-step")
    assert clears_correctly(loops[0]) != ("zero-grad" in script.parent.name and script.parent.parent.name == "sick")


def apply(tmp_path, source, patch):
    """Return the text after `git apply`."""
    (tmp_path / "train.py").write_bytes(source.encode())
    (tmp_path / "fix.patch").write_bytes(patch.encode())
    subprocess.run(
        ["git", "apply", "--whitespace=nowarn", "fix.patch"],
        cwd=tmp_path,
        check=True,
        env={"GIT_CEILING_DIRECTORIES": str(tmp_path.parent), "PATH": "/usr/bin:/bin:/usr/local/bin"},
    )
    return (tmp_path / "train.py").read_bytes().decode()


PATCHED = [(name, "TD301", MISSING[name][0]) for name in MISSING] + [(name, "TD302", BETWEEN[name][0]) for name in BETWEEN]
WITHOUT_PATCH = {
    ("one line", "TD301"),  # no line of its own
    ("accumulation that never clears", "TD301"),  # before the pass would undo the accumulation
    ("both under the accumulation", "TD302"),  # the same
    ("helper", "TD302"),  # two functions
    ("p.grad = None", "TD302"),  # a loop of its own
}


@pytest.mark.parametrize(("name", "kind", "source"), PATCHED, ids=lambda v: v if len(v) < 60 else "")
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_a_patch_applies_and_repairs(tmp_path, name, kind, source, ending, last):
    source = (source if last else source.rstrip("\n")).replace("\n", ending)
    patch = fix_patch(source, "train.py", kind)
    if (name, kind) in WITHOUT_PATCH:
        assert patch is None
        return
    repaired = apply(tmp_path, source, patch)
    assert not found(missing_zero_grad, repaired)
    assert not found(zero_grad_between, repaired)
    assert any(map(clears_correctly, training_loops(repaired, "train.py")))
    assert repaired.count("\r") == repaired.count("\n") * (ending == "\r\n")


def test_a_patch_keeps_the_indentation_and_the_comment():
    source = HEAD + "for x in dl:\n\tmodel(x).backward()\n\topt.zero_grad()  # clear\n\topt.step()\n"
    patch = fix_patch(source, "a/train.py", "TD302")
    assert patch.startswith("--- a/a/train.py\n+++ b/a/train.py\n@@")
    assert "+\topt.zero_grad()  # clear\n \tmodel(x).backward()\n-\topt.zero_grad()  # clear\n" in patch


def test_no_patch_for_what_is_not_known():
    assert fix_patch(HEAD, "train.py", "TD999") is None
    assert fix_patch("def f(:\n", "train.py", "TD301") is None


def loop(*kinds, unsure=""):
    events = [
        LoopEvent(kind.rstrip("?"), None if kind.startswith("backward") else "o", Location("t.py", i), not kind.endswith("?"))
        for i, kind in enumerate(kinds, 2)
    ]
    return TrainingLoop(Location("t.py", 1), tuple(events), why_unsure=unsure)


def test_loops_written_by_hand():
    assert missing_zero_grad(loop("backward", "step")) == Location("t.py", 2)
    assert missing_zero_grad(loop("step", "backward", "backward")) == Location("t.py", 4)
    assert missing_zero_grad(loop("backward", "step", "zero_grad?")) is None
    assert missing_zero_grad(loop("backward", "step", unsure="a hook")) is None
    assert zero_grad_between(loop("backward", "zero_grad", "step")) == Location("t.py", 3)
    assert zero_grad_between(loop("backward", "zero_grad?", "step")) is None
    assert zero_grad_between(loop("backward", "zero_grad", "backward", "step")) is None
    assert clears_correctly(loop("backward", "step", "zero_grad"))
    assert not clears_correctly(loop("backward", "step", "zero_grad?"))
    assert not clears_correctly(loop("backward"))
    assert not clears_correctly(loop("step"))
    assert not clears_correctly(loop())
