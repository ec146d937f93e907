import pytest

from traindoctor.code.scaler import (
    by_hand,
    is_on,
    is_plain_backward,
    is_plain_step,
    iterations,
    meet,
    passes_before,
    scaler_of,
    scaler_that_steps,
    unscaled_before,
)
from traindoctor.code.script import Script


def rounds(text, file="train.py"):
    return list(iterations(Script(file, text)))


def events(body):
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    ((_, found),) = rounds(f"for x, y in loader:\n{indented}")
    return found


def test_a_round_has_the_events_of_loops_within_in_order():
    found = events("for m in x:\n    scaler.scale(f(m)).backward()\nscaler.unscale_(o)\nscaler.step(o)\nscaler.update()")
    assert [e.kind for e in found] == ["backward", "unscale", "step", "scaler_update"]


def test_a_function_without_a_loop_is_a_round():
    ((loop, found),) = rounds("def step(x):\n    f(x).backward()\n    optimizer.step()\n")
    assert loop.node is None
    assert [e.kind for e in found] == ["backward", "step"]


@pytest.mark.parametrize(
    ("call", "scaler", "plain"),
    [
        ("scaler.step(opt)", "scaler", False),
        ("self.grad_scaler.step(self.opt)", "grad_scaler", False),
        ("opt.step()", None, True),
        ("opt.step(closure)", None, False),
    ],
)
def test_who_steps(call, scaler, plain):
    step = next(e for e in events(f"f(x).backward()\n{call}") if e.kind == "step")
    found = scaler_that_steps(step)
    assert (found is not None) is (scaler is not None)
    assert is_plain_step(step) is plain


@pytest.mark.parametrize(
    ("call", "scaled", "plain"),
    [
        ("scaler.scale(loss).backward()", True, False),
        ("loss.backward(retain_graph=True)", False, True),
        ("accelerator.backward(loss)", False, False),
    ],
)
def test_what_is_scaled(call, scaled, plain):
    backward = next(e for e in events(f"{call}\nopt.step()") if e.kind == "backward")
    assert (scaler_of(backward) is not None) is scaled
    assert is_plain_backward(backward) is plain


@pytest.mark.parametrize(
    ("text", "on"),
    [
        ("s = torch.amp.GradScaler()", True),
        ("s = torch.amp.GradScaler(enabled=False)", False),
        ("s = torch.amp.GradScaler(enabled=args.amp)", None),
        ("s = build()", True),
    ],
)
def test_whether_it_is_on(text, on):
    assert is_on(Script("a.py", f"import torch\n{text}\nloss.backward()")) is on


@pytest.mark.parametrize(
    ("body", "together"),
    [
        ("if a:\n    l.backward()\nelse:\n    opt.step()", False),
        ("if a:\n    l.backward()\nif a:\n    opt.step()", True),
        ("if a:\n    l.backward()\nif not a:\n    opt.step()", False),
        ("if a:\n    l.backward()\nif b:\n    opt.step()", True),
        ("if p == 'train':\n    l.backward()\nif p == 'val':\n    opt.step()", False),
        ("if p == 'train':\n    l.backward()\nif q == 'val':\n    opt.step()", True),
        ("l.backward()\nopt.step()", True),
    ],
)
def test_what_can_happen_in_one_round(body, together):
    backward, step = events(body)
    assert meet(backward, step) is together
    assert meet(step, backward) is together


def test_the_passes_since_the_last_step():
    found = events("a.backward()\nopt_a.step()\nb.backward()\nc.backward()\nopt_b.step()")
    assert passes_before(found, 4) == [found[3], found[2]]


def test_unscaled_since_the_last_step():
    found = events("scaler.scale(a).backward()\nscaler.unscale_(opt_a)\nscaler.step(opt_a)\nscaler.step(opt_b)")
    assert [unscaled_before(found, at) for at in range(4)] == [False, False, True, False]


def test_gradients_that_are_set_by_hand_are_told():
    ((loop, _),) = rounds("for x in loader:\n    f(x).backward()\n    p.grad = p.grad / 2\n    opt.step()\n")
    assert by_hand(loop)
