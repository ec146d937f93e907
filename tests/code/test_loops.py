# ruff: noqa: E501
import time

import pytest

from tests.code.scripts import CLEARS, GAN, HEAD, SILENT
from traindoctor.code.loops import read_source, training_loops
from traindoctor.errors import UnreadableInputError
from traindoctor.model import Location


def events(source):
    (loop,) = training_loops(source, "train.py")
    return [(event.kind, event.target) for event in loop.events]


def test_events_in_order_with_who_and_where():
    source = HEAD + (
        "sched = torch.optim.lr_scheduler.StepLR(opt, 1)\nscaler = torch.amp.GradScaler()\nopt.zero_grad()\n"
        "for é, x in dl:\n    é; scaler.scale(model(x)).backward()\n    scaler.unscale_(opt)\n"
        "    torch.nn.utils.clip_grad_norm_(model.parameters(), 1)\n    if i:\n        scaler.step(opt)\n    scaler.update()\n    sched.step()\n"
    )
    (loop,) = training_loops(source, "a/train.py")
    assert loop.location == Location("a/train.py", 8, 1)
    assert [(e.kind, e.target, e.certain, e.location.line) for e in loop.events] == [
        ("backward", None, True, 9),
        ("unscale", "opt", True, 10),
        ("clip", None, True, 11),
        ("step", "opt", False, 13),
        ("scaler_update", "scaler", True, 14),
        ("scheduler_step", "sched", True, 15),
    ]
    assert loop.events[0].location == Location("a/train.py", 9, 8)
    assert [(e.kind, e.target, e.location.line) for e in loop.before] == [("zero_grad", "opt", 7)]
    assert loop.why_unsure == ""


def test_the_loop_over_epochs_is_before_the_loop_over_batches():
    source = (
        HEAD
        + "for e in range(3):\n    opt.zero_grad()\n    for x in dl:\n        model(x).backward()\n        opt.step()\n    sched.step()\n"
    )
    (loop,) = training_loops(source, "train.py")
    assert loop.location.line == 7
    assert [(e.kind, e.location.line) for e in loop.before] == [("zero_grad", 6)]


def test_the_critic_of_a_wgan_is_a_loop_of_its_own():
    source = GAN + (
        "for x in dl:\n    for _ in range(5):\n        opt_d.zero_grad()\n        D(x).backward()\n        opt_d.step()\n"
        "    opt_g.zero_grad()\n    D(G(x)).backward()\n    opt_g.step()\n"
    )
    assert [loop.location.line for loop in training_loops(source, "train.py")] == [5, 6]


@pytest.mark.parametrize(
    "name",
    [
        "LBFGS",
        "fused in backward",
        "DeepSpeed",
        "DeepSpeed engine of a parameter",
        "Lightning",
        "imported helper with the optimizer",
        "gradients set by hand",
        "loop of one iteration",
        "optimizer and model of each fold",
        "another optimizer in each iteration",
        "class of a library",
        "unknown wrapper",
    ],
)
def test_what_is_not_known_is_said(name):
    loops = training_loops(SILENT[name], "train.py")
    assert loops
    assert all(loop.why_unsure for loop in loops)


def test_recursion_ends():
    source = (
        HEAD
        + "def f(x):\n    g(x)\ndef g(x):\n    f(x)\n    model(x).backward()\nfor x in dl:\n    f(x)\n    opt.step()\n    opt.zero_grad()\n"
    )
    assert ("backward", None) in events(source)


def test_a_function_called_twice_gives_its_loop_once():
    source = (
        HEAD
        + "def fit(o):\n    for x in dl:\n        o.zero_grad()\n        model(x).backward()\n        o.step()\nfit(opt)\nfit(opt)\n"
    )
    assert events(source) == [("zero_grad", "opt"), ("backward", None), ("step", "opt")]


def test_no_training_no_loops():
    assert training_loops("", "train.py") == []
    assert training_loops("for i in range(3):\n    print(i)\n", "train.py") == []
    assert training_loops("for i in range(3):\n    env.step(i)  # backward\n", "train.py") == []


def test_a_loop_without_a_step_is_said_to_have_none():
    (loop,) = training_loops(HEAD + "for x in dl:\n    model(x).backward()\nopt.step()\n", "train.py")
    assert loop.why_unsure == "no step of an optimizer in the loop"


def test_coding_cookie_byte_order_mark_and_line_ends(tmp_path):
    path = tmp_path / "train.py"
    path.write_bytes("# coding: latin-1\r\ns = 'é'\r\n".encode("latin-1"))
    assert read_source(path) == "# coding: latin-1\r\ns = 'é'\r\n"
    path.write_bytes(b"\xef\xbb\xbfx = 1\n")
    assert read_source(path) == "x = 1\n"
    assert training_loops("\ufeff" + CLEARS["before"], "train.py")


@pytest.mark.parametrize(
    "data", [b"\xff\xfe\x00", b"# coding: klingon\n", "é".encode("latin-1"), b"# coding: utf-7\n+AGEAYQ\xff"]
)
def test_a_script_that_is_no_text(tmp_path, data):
    path = tmp_path / "train.py"
    path.write_bytes(data)
    with pytest.raises(UnreadableInputError):
        read_source(path)


def test_a_script_that_is_not_there(tmp_path):
    for path in (tmp_path / "none.py", tmp_path):
        with pytest.raises(UnreadableInputError):
            read_source(path)


@pytest.mark.parametrize(
    "source",
    [
        "def f(:\n",
        "print 'python 2'\n",
        "%matplotlib inline\nbackward\n",
        "x = 1\0\n",
        "backward = " + "(" * 500 + ")" * 500,
        "x = " + "-" * 100_000 + "1  # backward",
        "backward" + "()" * 100_000,
        "backward = " + " + ".join(["a"] * 100_000),
        "backward\n" + "".join(" " * i + "if x:\n" for i in range(90)) + " " * 90 + "pass\n" + "\udc80",
    ],
    ids=["syntax", "python 2", "notebook", "null byte", "brackets", "minus", "calls", "sum", "surrogate"],
)
def test_what_is_no_python_or_too_deep_is_unreadable(source):
    with pytest.raises(UnreadableInputError) as caught:
        training_loops(source, "train.py")
    assert "train.py" in caught.value.where


def test_long_files_are_quick():
    body = "    model(x).backward()\n    opt.zero_grad()\n    opt.step()\n"
    flat = HEAD + "for x in dl:\n" + body + "".join(f"    a{i} = f{i}(x, {i})\n" for i in range(50_000))
    many = (
        HEAD
        + "".join(f"def f{i}(x):\n  for y in x:\n    f{i + 1}(y)\n    f{i + 2}(y)\n    f{i + 3}(y)\n" for i in range(10_000))
        + "for x in dl:\n    f0(x)\n"
        + body
    )
    branches = (
        HEAD + "for x in dl:\n" + "".join(f"    if c{i}:\n        model(x).backward()\n        opt.step()\n" for i in range(300))
    )
    for source in (flat, many, branches):
        start = time.process_time()
        assert training_loops(source, "train.py")
        assert time.process_time() - start < 10.0
