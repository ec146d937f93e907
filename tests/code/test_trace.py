# ruff: noqa: E501
import time

import pytest

from tests.code.scripts import GAN, HEAD
from traindoctor.code.order import cleared_late, clipped_idle, of_another, stepped_early, uncleared
from traindoctor.code.project import Project
from traindoctor.code.script import Script
from traindoctor.code.values import Optimizer, Scaler, Scheduler

LOOP = "for x in dl:\n"


def trace(source, **others):
    """Return the walk through a script; `others`: the files beside it."""
    texts = {f"{name}.py": text for name, text in others.items()}
    return Project.of_texts({**texts, "train.py": source}).script("train.py").trace


def calls(found):
    """Return the calls of the trace in a short form, constructions left out."""
    return [(e.kind, e.target) for e in found.events() if e.kind != "build"]


STEP = [("zero_grad", "opt"), ("backward", None), ("step", "opt")]
ONE = "def one(m, o, x):\n    o.zero_grad()\n    m(x).backward()\n    o.step()\n"


class TestOtherFiles:
    @pytest.mark.parametrize(
        ("start", "others"),
        [
            ("from engine import one\n" + HEAD + LOOP + "    one(model, opt, x)\n", {"engine": ONE}),
            ("import engine\n" + HEAD + LOOP + "    engine.one(model, opt, x)\n", {"engine": ONE}),
            ("import lib.engine as e\n" + HEAD + LOOP + "    e.one(model, opt, x)\n", {"lib/engine": ONE}),
            ("import lib.engine\n" + HEAD + LOOP + "    lib.engine.one(model, opt, x)\n", {"lib/engine": ONE}),
            (
                "from lib import one\n" + HEAD + LOOP + "    one(model, opt, x)\n",
                {
                    "lib/__init__": "from .engine import one\n",
                    "lib/engine": ONE,
                },
            ),
            ("from lib import *\n" + HEAD + LOOP + "    one(model, opt, x)\n", {"lib": ONE}),
            (
                HEAD + "def main():\n    from engine import one\n    for x in dl:\n        one(model, opt, x)\nmain()\n",
                {"engine": ONE},
            ),
        ],
        ids=["from", "import", "as", "dotted", "package", "star", "inside"],
    )
    def test_a_helper_is_followed(self, start, others):
        assert calls(trace(start, **others)) == STEP

    def test_its_events_say_where_they_stand_and_how_they_were_reached(self):
        found = trace("import engine\n" + HEAD + LOOP + "    engine.one(model, opt, x)\n", engine=ONE)
        step = list(found.events())[-1]
        assert step.location.text == "engine.py:4"
        assert found.script.place(step.via).line == 7
        assert [loop.node.lineno for loop in step.loops] == [6]
        assert [script.file for script in found.scripts] == ["train.py", "engine.py"]

    def test_a_class_of_another_file_and_its_base(self):
        base = (
            "import torch\nclass Base:\n    def __init__(self, m):\n        self.m = m\n"
            "        self.opt = torch.optim.SGD(m.parameters(), lr=1)\n    def one(self, x):\n        self.m(x).backward()\n        self.opt.step()\n"
        )
        found = trace(
            "from base import Base\nclass T(Base):\n    def __init__(self, m):\n        super().__init__(m)\n    def one(self, x):\n"
            "        self.opt.zero_grad()\n        super().one(x)\n    def fit(self):\n        for x in dl:\n            self.one(x)\n",
            base=base,
        )
        kinds = [(e.kind, e.target) for e in found.loops()[0].flat()]
        assert kinds == [("zero_grad", "self.opt"), ("backward", None), ("step", "self.opt")]

    def test_files_that_import_each_other(self):
        a = "from b import g\ndef f(o):\n    o.step()\n    g(o)\n"
        b = "from a import f\ndef g(o):\n    o.zero_grad()\n    f(o)\n"
        assert calls(trace("from a import f\n" + HEAD + LOOP + "    f(opt)\n", a=a, b=b)) == [
            ("step", "opt"),
            ("zero_grad", "opt"),
        ]

    def test_a_file_that_does_not_parse_or_does_not_train_is_left_alone(self):
        source = "from engine import one\nfrom net import Net\n" + HEAD + LOOP + "    one(model, opt, x)\n"
        found = trace(source, engine="def one(m, o, x:\n    o.step()\n", net="class Net:\n    pass\n")
        assert calls(found) == []
        assert found.loops()[0].unsure
        assert len(found.scripts) == 1


class TestIdentity:
    def test_through_the_tuple_that_a_function_gives_back(self):
        source = (
            "import torch\ndef build(net):\n    opt = torch.optim.Adam(net.parameters())\n"
            "    sched = torch.optim.lr_scheduler.StepLR(opt, 9)\n    return opt, (sched, torch.cuda.amp.GradScaler(enabled=False))\n"
            "o, (s, scaler) = build(model)\nfor x in dl:\n    scaler.scale(f(x)).backward()\n    scaler.step(o)\n    scaler.update()\n    s.step()\n"
        )
        found = trace(source)
        assert calls(found) == [("backward", None), ("step", "opt"), ("scaler_update", "scaler"), ("scheduler_step", "sched")]
        (optimizer,), (scheduler,), (scaler,) = found.optimizers, found.schedulers, found.scalers
        assert isinstance(optimizer, Optimizer)
        assert isinstance(scheduler, Scheduler)
        assert isinstance(scaler, Scaler)
        assert (optimizer.constructor, optimizer.holds, optimizer.node.lineno) == ("Adam", frozenset({"model"}), 3)
        assert (scheduler.constructor, scheduler.optimizer) == ("StepLR", optimizer)
        assert scaler.enabled is False
        passes = next(e for e in found.events() if e.kind == "backward")
        assert passes.loss.scaled == "scaler"

    @pytest.mark.parametrize(
        ("arguments", "enabled"),
        [("", True), ("'cuda'", True), ("enabled=False", False), ("enabled=use_amp", None), ("**options", None)],
    )
    def test_whether_a_scaler_is_on(self, arguments, enabled):
        assert trace(f"from torch.amp import GradScaler\ns = GradScaler({arguments})\n").scalers[0].enabled is enabled

    def test_two_optimizers_and_two_models(self):
        found = trace(
            GAN
            + LOOP
            + "    G.train()\n    D.eval()\n    opt_g.zero_grad()\n    D(G(x)).backward()\n    opt_g.step()\n    opt_d.step()\n"
        )
        assert calls(found) == [
            ("train", "G"), ("eval", "D"), ("zero_grad", "opt_g"), ("backward", None), ("step", "opt_g"), ("step", "opt_d"),
        ]  # fmt: skip
        assert not found.overlap("opt_g", "opt_d")

    def test_builds_have_the_name_they_are_bound_to(self):
        found = trace(
            "import torch\nclass T:\n    def fit(self):\n        for e in r:\n            self.o = torch.optim.Adam(self.m.parameters())\n"
        )
        (build,) = [e for e in found.events() if e.kind == "build"]
        assert build.target == "self.o"
        assert [loop.node.lineno for loop in build.loops] == [4]

    def test_a_closure_and_a_lambda(self):
        source = (
            HEAD
            + "def main():\n    clear = lambda: opt.zero_grad()\n    def closure():\n        clear()\n        loss = f(x)\n        loss.backward()\n        return loss\n    for x in dl:\n        opt.step(closure)\nmain()\n"
        )
        assert calls(trace(source)) == STEP


class TestContexts:
    def test_with_blocks_of_the_callers_count(self):
        source = (
            HEAD + "def passes(x):\n    model(x).backward()\n@torch.no_grad()\ndef evaluate():\n    model.eval()\n"
            "for x in dl:\n    with torch.autocast('cuda', dtype=torch.bfloat16):\n        passes(x)\n    passes(x)\n    evaluate()\n"
            "    with torch.inference_mode():\n        model.eval()\n    with torch.autocast('cuda', enabled=False):\n        passes(x)\n"
        )
        found = [(e.kind, sorted(e.within)) for e in trace(source).events() if e.kind != "build"]
        assert found == [
            ("autocast", []),
            ("backward", ["autocast"]),
            ("backward", []),
            ("eval", ["no_grad"]),
            ("eval", ["inference_mode"]),
            ("backward", []),
        ]

    def test_a_context_that_has_a_name(self):
        source = (
            HEAD
            + "ctx = nullcontext() if cpu else torch.amp.autocast('cuda')\nfor x in dl:\n    with ctx:\n        model(x).backward()\n"
        )
        assert [sorted(e.within) for e in trace(source).events() if e.kind == "backward"] == [["autocast"]]

    def test_branches_and_handlers(self):
        source = (
            HEAD
            + "for x in dl:\n    if a:\n        opt.step()\n    else:\n        opt.zero_grad()\n    try:\n        model(x).backward()\n    except RuntimeError:\n        opt.zero_grad()\n    finally:\n        model.train()\n"
        )
        found = {e.kind: e for e in trace(source).events()}
        assert not found["step"].certain
        assert found["backward"].certain
        assert found["train"].certain
        first, second = (e.branch for e in trace(source).events() if e.kind == "zero_grad")
        assert first == ((found["step"].branch[0][0], False),)
        assert second == (("except at line 12", True),)

    def test_train_of_a_mode_that_is_not_known_may_be_either(self):
        found = list(trace("for e in r:\n    model.train(flag)\n    model.train(False)\n").events())
        assert [(e.kind, e.certain) for e in found] == [("train", False), ("eval", False), ("eval", True)]


class TestOrder:
    def wrong(self, proven, source, **others):
        return [(w.optimizer, w.event.location.line) for loop in trace(source, **others).training for w in proven(loop)]

    def test_while_true_with_the_clearing_at_the_end(self):
        source = HEAD + "while True:\n    model(x).backward()\n    opt.step()\n    opt.zero_grad()\n"
        for proven in (uncleared, cleared_late, stepped_early, clipped_idle):
            assert self.wrong(proven, source) == []

    def test_the_turn_of_each_optimizer(self):
        source = (
            GAN
            + LOOP
            + "    opt_g.zero_grad()\n    D(x).backward()\n    opt_d.step()\n    opt_g.zero_grad()\n    D(G(x)).backward()\n    opt_g.step()\n"
        )
        assert self.wrong(uncleared, source) == [("opt_d", 7)]
        (loop,) = trace(source).training
        (wrong,) = uncleared(loop)
        assert of_another(wrong).location.line == 6

    def test_a_step_before_its_pass_in_one_branch_is_not_proven(self):
        source = HEAD + LOOP + "    if a:\n        opt.zero_grad()\n        opt.step()\n    model(x).backward()\n    opt.step()\n"
        assert self.wrong(stepped_early, source) == []


def nested(depth):
    lines = [" " * i + "for x in dl:" for i in range(depth)]
    return HEAD + "\n".join(lines) + "\n" + " " * depth + "opt.step()\n"


@pytest.mark.parametrize(
    "source",
    [
        nested(18),
        HEAD
        + "".join(f"def f{i}(o):\n    for x in dl:\n        f{i + 1}(o)\n        f{i + 2}(o)\n" for i in range(300))
        + "f0(opt)\n",
        HEAD + "x = " + "[" * 60 + "opt" + "]" * 60 + "\nfor (a, *b), c.d, e[0] in z:\n    (opt := opt).step()\n",
        HEAD
        + "for x in dl:\n"
        + "".join(f"    if c{i}:\n        opt.zero_grad()\n        model(x).backward()\n" for i in range(200))
        + "    opt.step()\n",
        "class A(A):\n    def step(self):\n        super().step()\n        self.step()\nA().step()\nfor x in y:\n    A().backward()\n",
        "import a.b.c, a\nfrom . import *\nfrom .... import z\nfrom .z import z\nfor i in z.z.z(a.b.c.d(opt)):\n    z.step(*opt, **z)\n    del z.grad\n",
        "async def f(o):\n    async for x in o:\n        async with x as o.opt:\n            await o.opt.step()\n    match o:\n        case {'a': opt, **r}:\n            opt.step()\n",
        "opt.step = None\nfor opt in opt:\n    lambda: opt.step()\n    [o.step() for o in opt if o.zero_grad()]\n    opt.step(lambda: opt.step())\n",
        "def f(*a, o=g(), **k):\n    return f(*a, **k)\nfor x in f(f, f):\n    x.backward(x.step())\n    global y\n    y.grad = None\n",
    ],
    ids=["loops", "calls", "lists", "branches", "own base", "imports", "async", "names", "stars"],
)
def test_hostile_scripts_are_walked_quickly(source):
    texts = {
        "train.py": source,
        "z.py": "from .train import *\nopt.step()\nfrom z import z\n",
        "a/b.py": "from a import b as c\nx.step()\n",
    }
    script = Project.of_texts(texts).script("train.py")
    start = time.process_time()
    assert list(script.trace.events()) is not None
    for loop in script.trace.training:
        for proven in (uncleared, cleared_late, stepped_early, clipped_idle):
            list(proven(loop))
    assert time.process_time() - start < 5.0


def test_what_is_nested_too_deeply_gives_an_empty_trace():
    script = Script("train.py", "x = " + " + ".join(["f(x)"] * 2000) + "\nopt.step()\n")
    assert isinstance(script.trace.complete, bool)
    assert script.trace.complete or list(script.trace.events()) == []
