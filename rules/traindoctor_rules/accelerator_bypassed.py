"""The backward pass is called on the loss itself, although accelerate or Fabric prepared the optimizer.

## What it looks like
Under float16 the prepared optimizer divides gradients by a loss scale that they never had, or raises AssertionError.
With gradient accumulation the loss is not divided by the number of micro-batches. Under DeepSpeed nothing is trained.

## Why it happens
`accelerator.backward(loss)` divides by the accumulation steps, scales the loss, and hands it to the engine that is in use.
`loss.backward()` does none of it. It works in plain float32 on one GPU, which is where it was tried.

## When it is wrong
A run that is never started with mixed precision, accumulation or DeepSpeed trains the same either way.

## What repairs it
`accelerator.backward(loss)`, `fabric.backward(loss)`.

## References
Accelerate documentation, "Add Accelerate to your code": replace loss.backward() with accelerator.backward(loss). Lightning Fabric
documentation, "Convert PyTorch code to Fabric".
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from traindoctor.code.names import PREPARES, last_of
from traindoctor.code.scaler import is_plain_backward, is_plain_step, iterations, meet, passes_before
from traindoctor.code.schedulers import prepared_as
from traindoctor.code.script import UNKNOWN
from traindoctor.code.values import Optimizer
from traindoctor.mistake import Mistake, Repair
from traindoctor.patterns import lazy
from traindoctor.rule import Cause, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.events import TracedEvent
    from traindoctor.code.script import Script
    from traindoctor.rule import Limits

CAUSE = Cause(
    code="TD316",
    name="accelerator-bypassed",
    summary="the backward pass goes around the accelerator that prepared the optimizer",
    explanation=__doc__,
)

_ACCELERATOR = lazy(r"accel|fabric", re.IGNORECASE)


@CAUSE.in_script("ccelerat|abric", "backward", "prepare|setup")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the plain backward passes that a prepared optimizer steps after."""
    for _, events in iterations(script):
        for at, step in enumerate(events):
            if not is_plain_step(step):
                continue
            prepared = _prepared(script, step)
            if prepared is None or not isinstance(prepared.func, ast.Attribute):
                continue
            for one in passes_before(events, at):
                if is_plain_backward(one) and not _chosen(one, step, events):
                    yield _mistake(script, one, prepared.func.value)


@CAUSE.in_script("Trainer", "training_step", "backward", "self.accelerator")
def in_a_trainer(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the plain backward passes of a `training_step` that overrides that of transformers, where no other kind is left."""
    for function in script.all(ast.FunctionDef):
        owner = script.parents[function]
        if function.name != "training_step" or not isinstance(owner, ast.ClassDef) or not _is_trainer(script, owner):  # type: ignore[attr-defined]
            continue
        calls = [c for c in script.calls.get("backward", ()) if function in script.above(c) and isinstance(c.func, ast.Attribute)]
        plain = [c for c in calls if not _is_of_apex(script, c)]
        if len(plain) == 1 and not plain[0].args and isinstance(plain[0].func.value, ast.Name):  # type: ignore[attr-defined]
            call, loss = plain[0], plain[0].func.value.id  # type: ignore[attr-defined]
            yield Mistake(
                script.place(call),
                f"{loss}.backward() goes around self.accelerator, with which the Trainer prepared the optimizer. "
                "Its loss scaling, gradient accumulation and DeepSpeed are left out, whichever of them the run is started with.",
                f"Call self.accelerator.backward({loss})",
                severity="warning",
                repair=Repair(
                    "Let the accelerator run the backward pass",
                    (script.replaced(call, f"self.accelerator.backward({_arguments(script, call, loss)})"),),
                    safe=True,
                ),
            )


def _is_trainer(script: Script, owner: ast.ClassDef) -> bool:
    bases = [script.dotted(base) for base in owner.bases]
    return any(base.startswith(("transformers.", "trl.")) and base.endswith("Trainer") for base in bases)


def _is_of_apex(script: Script, call: ast.Call) -> bool:
    """Return whether a backward pass stands in a block of `amp.scale_loss`."""
    return any(
        isinstance(item.context_expr, ast.Call) and last_of(item.context_expr.func) == "scale_loss"
        for node in script.above(call)
        if isinstance(node, ast.With)
        for item in node.items
    )


def _arguments(script: Script, call: ast.Call, loss: str) -> str:
    """Return what an accelerator is given in the place of `loss.backward(...)`."""
    return ", ".join([loss, *(script.source(a) for a in call.args), *(script.source(k) for k in call.keywords)])


def _prepared(script: Script, step: TracedEvent) -> ast.Call | None:
    """Return the call that gave the optimizer of a step to an accelerator; one that is not known is told by its name."""
    if isinstance(step.thing, Optimizer):
        return step.thing.prepared
    for call in (c for way in PREPARES for c in script.calls.get(way, ())):
        if isinstance(call.func, ast.Attribute) and _ACCELERATOR.search(last_of(call.func.value)):
            for at, given in enumerate(call.args):
                back = prepared_as(script, call, at)
                if back is not None and script.dotted(back) == script.dotted(given) == step.target:
                    return call
    return None


def _chosen(plain: TracedEvent, step: TracedEvent, events: list[TracedEvent]) -> bool:
    """Return whether a condition chooses between a plain backward pass and one of another kind, for the same step."""
    others = (e for e in events if e.kind == "backward" and not is_plain_backward(e))
    return any(meet(e, step) and not meet(e, plain) for e in others)


def _mistake(script: Script, plain: TracedEvent, accelerator: ast.expr) -> Mistake:
    call = plain.node
    assert isinstance(call, ast.Call)
    assert isinstance(call.func, ast.Attribute)
    name, loss = script.source(accelerator), plain.script.source(call.func.value)
    why = _what_is_lost(script, accelerator)
    repair = None
    same = plain.script is script and (
        script.function(call) is script.function(accelerator) or script.function(accelerator) is None or name.startswith("self.")
    )
    if same:
        edit = script.replaced(call, f"{name}.backward({_arguments(script, call, loss)})")
        repair = Repair(f"Let {name} run the backward pass", (edit,), safe=True)
    return Mistake(
        script.place(call if plain.script is script else plain.via),
        f"{loss}.backward() goes around {name}, which prepared the optimizer. "
        + (
            why
            or "Its loss scaling, gradient accumulation and DeepSpeed are left out, whichever of them the run is started with."
        ),
        f"Call {name}.backward({loss})",
        severity="error" if why else "warning",
        repair=repair,
        related=((script.place(accelerator), "the optimizer is prepared here"),),
    )


def _what_is_lost(script: Script, accelerator: ast.expr) -> str:
    """Return what the script itself asks of the accelerator that the plain pass leaves out; "" where nothing is seen."""
    built = script.origin(accelerator)
    if not isinstance(built, ast.Call):
        return ""
    precision = script.constant(script.argument(built, "mixed_precision") or script.argument(built, "precision"))
    if precision in ("fp16", "16-mixed", 16, "16"):
        return "The loss is not scaled for float16, and the optimizer divides its gradients by the scale all the same."
    steps = script.constant(script.argument(built, "gradient_accumulation_steps"))
    if steps is not UNKNOWN and isinstance(steps, int) and steps > 1:
        return f"The loss is not divided by the {steps} steps of gradient accumulation."
    if script.argument(built, "deepspeed_plugin") is not None:
        return "DeepSpeed does not see the backward pass, and has no gradients to step with."
    return ""


CAUSE.valid_code = (
    Sample(
        "by the accelerator",
        """\
from accelerate import Accelerator
accelerator = Accelerator(mixed_precision="fp16")
optimizer = AdamW(model.parameters())
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
for batch in loader:
    with accelerator.accumulate(model):
        loss = model(**batch).loss
        accelerator.backward(loss)
        optimizer.step()
        lr_scheduler.step()
        optimizer.zero_grad()
""",
    ),
    Sample(
        "an optimizer that was not prepared",
        """\
import torch
from accelerate import Accelerator
accelerator = Accelerator()
probe_optimizer = torch.optim.SGD(probe.parameters(), 0.1)
optimizer = torch.optim.AdamW(model.parameters())
model, optimizer = accelerator.prepare(model, optimizer)
for x, y in loader:
    probe_optimizer.zero_grad()
    criterion(probe(x), y).backward()
    probe_optimizer.step()
""",
    ),
    Sample(
        "one of two ways",
        """\
from accelerate import Accelerator
accelerator = Accelerator()
optimizer = AdamW(model.parameters())
model, optimizer = accelerator.prepare(model, optimizer)
for x, y in loader:
    loss = model(x)
    if use_accelerate:
        accelerator.backward(loss)
    else:
        loss.backward()
    optimizer.step()
    optimizer.zero_grad()
""",
    ),
    Sample(
        "Fabric",
        """\
from lightning.fabric import Fabric
fabric = Fabric(precision="16-mixed")
optimizer = torch.optim.Adam(model.parameters())
model, optimizer = fabric.setup(model, optimizer)
for x, y in loader:
    optimizer.zero_grad()
    fabric.backward(model(x))
    optimizer.step()
""",
    ),
    Sample(
        "a pass for the gradient of an input",
        """\
from accelerate import Accelerator
accelerator = Accelerator()
optimizer = AdamW(model.parameters())
model, optimizer = accelerator.prepare(model, optimizer)
for x, y in loader:
    accelerator.backward(model(x).mean())
    optimizer.step()
    optimizer.zero_grad()
def saliency(x):
    x.requires_grad_()
    model(x).sum().backward()
    return x.grad
""",
    ),
    Sample(
        "no accelerator",
        """\
def prepare(batch):
    return batch
# accelerate is not used here
for x, y in loader:
    model(prepare(x)).backward()
    optimizer.step()
""",
    ),
    Sample(
        "a Trainer of transformers, with apex",
        """\
from transformers import Trainer
class MyTrainer(Trainer):
    def training_step(self, model, inputs):
        loss = self.compute_loss(model, inputs)
        if self.use_apex:
            with amp.scale_loss(loss, self.optimizer) as scaled_loss:
                scaled_loss.backward()
        else:
            self.accelerator.backward(loss)
        return loss.detach()
""",
    ),
    Sample(
        "a Trainer of before accelerate",
        """\
from transformers import Trainer
class MyTrainer(Trainer):
    def training_step(self, model, inputs):
        loss = self.compute_loss(model, inputs)
        if self.do_grad_scaling:
            self.scaler.scale(loss).backward()
        elif self.deepspeed:
            loss = self.deepspeed.backward(loss)
        else:
            loss.backward()
        return loss.detach()
# self.accelerator came later
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "float16",
        """\
from accelerate import Accelerator
accelerator = Accelerator(mixed_precision="fp16")
optimizer = AdamW(model.parameters())
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
for batch in loader:
    optimizer.zero_grad()
    loss = model(**batch).loss
    loss.backward()  # <-
    optimizer.step()
""",
        fixed="""\
from accelerate import Accelerator
accelerator = Accelerator(mixed_precision="fp16")
optimizer = AdamW(model.parameters())
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
for batch in loader:
    optimizer.zero_grad()
    loss = model(**batch).loss
    accelerator.backward(loss)  # <-
    optimizer.step()
""",
    ),
    Sample(
        "in a function, whatever the precision",
        """\
import torch
from accelerate import Accelerator
def train(model, optimizer, loader, accelerator):
    for x, y in loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()  # <-
        optimizer.step()
def main():
    accelerator = Accelerator()
    optimizer = torch.optim.AdamW(model.parameters())
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    train(model, optimizer, loader, accelerator)
""",
    ),
    Sample(
        "accumulation, with arguments of backward",
        """\
from accelerate import Accelerator
class Trainer:
    def __init__(self, model):
        self.accelerator = Accelerator(gradient_accumulation_steps=8)
        self.optimizer = AdamW(model.parameters())
        self.model, self.optimizer = self.accelerator.prepare(model, self.optimizer)
    def fit(self):
        for batch in self.loader:
            with self.accelerator.accumulate(self.model):
                loss = self.model(batch)
                loss.backward(retain_graph=True)  # <-
                self.optimizer.step()
                self.optimizer.zero_grad()
""",
        fixed="""\
from accelerate import Accelerator
class Trainer:
    def __init__(self, model):
        self.accelerator = Accelerator(gradient_accumulation_steps=8)
        self.optimizer = AdamW(model.parameters())
        self.model, self.optimizer = self.accelerator.prepare(model, self.optimizer)
    def fit(self):
        for batch in self.loader:
            with self.accelerator.accumulate(self.model):
                loss = self.model(batch)
                self.accelerator.backward(loss, retain_graph=True)  # <-
                self.optimizer.step()
                self.optimizer.zero_grad()
""",
    ),
    Sample(
        "Fabric",
        """\
from lightning.fabric import Fabric
fabric = Fabric(precision="16-mixed")
optimizer = torch.optim.Adam(model.parameters())
model, optimizer = fabric.setup(model, optimizer)
for x, y in loader:
    optimizer.zero_grad()
    loss = model(x)
    loss.backward()  # <-
    optimizer.step()
""",
    ),
    Sample(
        "an optimizer that another file builds",
        """\
import library
from accelerate import Accelerator
accelerator = Accelerator()
_, optimizer = library.get_optimizer(args, model)
model, optimizer = accelerator.prepare(model, optimizer)
for x, y in loader:
    loss = model(x)
    loss.backward()  # <-
    optimizer.step()
    optimizer.zero_grad()
""",
    ),
    Sample(
        "the discriminator alone, in a branch of its own",
        """\
from accelerate import Accelerator
accelerator = Accelerator()
opt_g = AdamW(G.parameters())
opt_d = AdamW(D.parameters())
G, D, opt_g, opt_d = accelerator.prepare(G, D, opt_g, opt_d)
for i, x in enumerate(loader):
    if i % 2 == 0:
        loss = g_loss(x)
        accelerator.backward(loss)
        opt_g.step()
        opt_g.zero_grad()
    else:
        loss = d_loss(x)
        loss.backward()  # <-
        opt_d.step()
        opt_d.zero_grad()
""",
    ),
    Sample(
        "a Trainer of transformers",
        """\
from transformers import Trainer
class MyTrainer(Trainer):
    def training_step(self, model, inputs, num_items_in_batch=None):
        model.train()
        inputs = self._prepare_inputs(inputs)
        loss = self.compute_loss(model, inputs)
        loss.backward()  # <-
        return loss.detach()
    def gather(self, x):
        return self.accelerator.gather(x)
""",
        fixed="""\
from transformers import Trainer
class MyTrainer(Trainer):
    def training_step(self, model, inputs, num_items_in_batch=None):
        model.train()
        inputs = self._prepare_inputs(inputs)
        loss = self.compute_loss(model, inputs)
        self.accelerator.backward(loss)  # <-
        return loss.detach()
    def gather(self, x):
        return self.accelerator.gather(x)
""",
    ),
)
