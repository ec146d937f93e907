import ast

import pytest

from traindoctor.code.schedulers import (
    batch_loop,
    counts_epochs,
    decay_per_step,
    epochs_of,
    horizon,
    kind_of,
    kinds,
    loop_of_loops,
    prepared_as,
    scheduler_calls,
    steps_of_schedulers,
    unit_of,
)
from traindoctor.code.script import Script

IMPORTS = "import torch\nfrom torch.optim import lr_scheduler\nfrom torch.optim.lr_scheduler import *\n"


def script_of(text, file="train.py"):
    return Script(file, IMPORTS + text)


def built(text):
    script = script_of(text)
    kind, call = next(scheduler_calls(script))
    return script, kind, call


class TestKind:
    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            ("torch.optim.lr_scheduler.StepLR(o, 3)", "StepLR"),
            ("lr_scheduler.CosineAnnealingLR(o, 3)", "CosineAnnealingLR"),
            ("OneCycleLR(o, 3)", "OneCycleLR"),
            ("mylib.StepLR(o, 3)", ""),
            ("factory['StepLR'](o, 3)", ""),
            ("StepLR", ""),
        ],
    )
    def test_of_a_call(self, text, kind):
        script = script_of(f"s = {text}")
        assert kind_of(script, script.tree.body[-1].value) == kind

    def test_a_name_of_another_import_is_none(self):
        script = Script("a.py", "from mylib import StepLR\nStepLR(o, 3)")
        assert kind_of(script, script.tree.body[-1].value) == ""

    def test_a_class_of_the_file_is_none(self):
        script = script_of("class StepLR: pass\ns = StepLR(o, 3)")
        assert kind_of(script, script.tree.body[-1].value) == ""

    def test_all_that_a_name_may_be(self):
        script = script_of("if a:\n    s = StepLR(o, 3)\nelse:\n    s = ReduceLROnPlateau(o)\ns.step()")
        assert kinds(script, script.calls["step"][0].func.value) == {"StepLR", "ReduceLROnPlateau"}

    def test_none_at_first_does_not_count(self):
        script = script_of("s = None\ns = StepLR(o, 3)\ns.step()")
        assert kinds(script, script.calls["step"][0].func.value) == {"StepLR"}

    def test_what_prepare_gives_back_is_what_it_was_given(self):
        script = script_of("s = StepLR(o, 3)\nm, s = accelerator.prepare(m, s)\ns.step()")
        assert kinds(script, script.calls["step"][0].func.value) == {"StepLR"}
        assert prepared_as(script, script.calls["prepare"][0], 1).id == "s"


class TestHorizon:
    @pytest.mark.parametrize(
        ("text", "unit", "number"),
        [
            ("CosineAnnealingLR(o, T_max=args.epochs)", "epochs", None),
            ("CosineAnnealingLR(o, num_epochs - warmup_epochs)", "epochs", None),
            ("CosineAnnealingLR(o, int(args.epochs * 0.9))", "epochs", None),
            ("CosineAnnealingLR(o, cfg['epochs'])", "epochs", None),
            ("CosineAnnealingLR(o, args.epochs * len(loader))", "batches", None),
            ("CosineAnnealingLR(o, args.epochs * iters_per_epoch)", "batches", None),
            ("CosineAnnealingLR(o, max_steps)", "batches", None),
            ("CosineAnnealingLR(o, args.epochs * n)", "", None),
            ("CosineAnnealingLR(o, 50)", "", 50),
            ("StepLR(o, 30, 0.1)", "", 30),
            ("MultiStepLR(o, [30, 60])", "", 60),
            ("MultiStepLR(o, milestones=[int(f * epochs) for f in (0.5, 0.75)])", "", None),
            ("OneCycleLR(o, 0.1, epochs=3, steps_per_epoch=len(loader))", "batches", None),
            ("OneCycleLR(o, 0.1, epochs=3, steps_per_epoch=1)", "epochs", 1),
            ("OneCycleLR(o, 0.1, total_steps=epochs)", "epochs", None),
            ("OneCycleLR(o, 0.1, None, epochs, len(loader))", "batches", None),
            ("LambdaLR(o, lambda epoch: 1 - epoch / num_epochs)", "epochs", None),
            ("LambdaLR(o, lambda step: min(1, step / warmup_steps))", "batches", None),
            ("LambdaLR(o, lambda t: 0.9 ** t)", "", None),
        ],
    )
    def test_of_a_constructor(self, text, unit, number):
        found = horizon(*built(f"s = {text}"))
        assert (found.unit, found.number) == (unit, number)

    def test_none_is_given(self):
        assert horizon(*built("s = ExponentialLR(o, 0.9)")) is None

    @pytest.mark.parametrize(
        ("text", "unit"),
        [
            ("n = epochs * len(loader)\nx = n", "batches"),
            ("epochs = 90\nx = epochs", "epochs"),
            ("n = 90\nx = n", ""),
            ("total = args.epochs\nx = total", "epochs"),
            ("x = f(epochs)", ""),
            ("x = n", ""),
        ],
    )
    def test_names_are_looked_up(self, text, unit):
        script = Script("a.py", text)
        assert unit_of(script, script.tree.body[-1].value) == unit

    @pytest.mark.parametrize(
        ("text", "factor"),
        [
            ("ExponentialLR(o, gamma=0.95)", 0.95),
            ("LambdaLR(o, lambda e: 0.9 ** e)", 0.9),
            ("MultiplicativeLR(o, lambda e: 0.8)", 0.8),
            ("LambdaLR(o, warmup)", None),
            ("StepLR(o, 3, 0.1)", None),
            ("ExponentialLR(o, g)", None),
        ],
    )
    def test_decay(self, text, factor):
        assert decay_per_step(*built(f"s = {text}")) == factor


class TestLoops:
    @pytest.mark.parametrize(
        ("head", "over_epochs", "bound"),
        [
            ("for epoch in range(10):", True, "10"),
            ("for e in range(start, args.epochs):", True, "args.epochs"),
            ("for e in tqdm(range(num_epochs)):", True, "num_epochs"),
            ("for e in trange(n):", False, "n"),
            ("for x, y in loader:", False, None),
            ("while epoch < 10:", True, None),
            ("while step < steps_per_epoch:", False, None),
            ("while True:", False, None),
        ],
    )
    def test_of_epochs(self, head, over_epochs, bound):
        script = Script("a.py", f"{head}\n    pass")
        loop = script.tree.body[0]
        end = epochs_of(loop)
        assert counts_epochs(script, loop) is over_epochs
        assert (ast.unparse(end) if end is not None else None) == bound

    TEXT = """\
s = StepLR(o, 3)
for epoch in range(10):
    for x, y in loader:
        loss.backward()
        optimizer.step()
{}    s.step()
"""

    def test_of_batches(self):
        ((event, made),) = steps_of_schedulers(script_of(self.TEXT.format("    ")))
        assert batch_loop(event) is event.loops[-1]
        assert loop_of_loops(event) is None
        assert [one.kind for one in made] == ["StepLR"]

    def test_around_batches(self):
        ((event, _),) = steps_of_schedulers(script_of(self.TEXT.format("")))
        assert batch_loop(event) is None
        assert loop_of_loops(event) is event.loops[-1]

    def test_one_of_several_that_is_not_known_is_none(self):
        text = self.TEXT.format("").replace("s = StepLR(o, 3)", "if a:\n    s = StepLR(o, 3)\nelse:\n    s = other(o)")
        assert list(steps_of_schedulers(script_of(text))) == []

    def test_an_argument_names_the_epoch(self):
        assert list(steps_of_schedulers(script_of(self.TEXT.format("").replace("s.step()", "s.step(epoch)")))) == []
