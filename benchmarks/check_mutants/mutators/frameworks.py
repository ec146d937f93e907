"""Rows 40 to 42: Lightning, Accelerate and Keras."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mutators import plants
from source import FUNCTIONS, Edit, dotted, keyword, last

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sites import Script
    from source import Mutant


@plants
def manual_steps_in_automatic_mode(script: Script) -> Iterator[Mutant | None]:
    """Row 40: training_step optimises by hand although Lightning does so itself."""
    if "lightning" not in script.text.lower():
        return
    for node in script.nodes:
        if not isinstance(node, ast.ClassDef) or not any(
            isinstance(s, FUNCTIONS) and s.name == "training_step" for s in node.body
        ):
            continue
        step = next(s for s in node.body if isinstance(s, FUNCTIONS) and s.name == "training_step")
        flags = [
            n for n in ast.walk(node) if isinstance(n, ast.Assign) and dotted(n.targets[0]).endswith("automatic_optimization")
        ]
        by_hand = [
            n
            for n in ast.walk(step)
            if isinstance(n, ast.Expr)
            and isinstance(n.value, ast.Call)
            and last(n.value.func) in {"step", "zero_grad", "manual_backward"}
        ]
        opts = [n for n in ast.walk(step) if isinstance(n, ast.Assign) and "self.optimizers()" in script.of(n)]
        for flag in flags:
            yield script.mutant("40", "flag deleted", [script.delete(flag)], *by_hand, *opts, step)
            yield script.mutant("40", "flag commented out", [script.comment_out(flag)], *by_hand, *opts, step)
            yield script.mutant("40", "flag set to True", [script.replace(flag.value, "True")], *by_hand, *opts, step)
        final = step.body[-1]
        if not flags and isinstance(final, ast.Return) and isinstance(final.value, ast.Name):
            loss = final.value.id
            for backward in (f"self.manual_backward({loss})", f"{loss}.backward()"):
                lines = f"opt = self.optimizers()\nopt.zero_grad()\n{backward}\nopt.step()"
                yield script.mutant(
                    "40", f"by hand, {backward.split('(')[0]}".replace(loss, "loss"), [script.before(final, lines)], step
                )


@plants
def plain_backward_under_accelerate(script: Script) -> Iterator[Mutant | None]:
    """Row 41: the loss goes backward past Accelerate or Fabric."""
    for s, call in script.bare("backward"):
        if dotted(call.func.value) in {"accelerator", "self.accelerator", "fabric", "self.fabric"} and len(call.args) == 1:  # type: ignore[attr-defined]
            yield script.mutant("41", "loss.backward()", [script.replace(s.value, f"{script.of(call.args[0])}.backward()")])  # type: ignore[attr-defined]
            kept = f"({script.of(call.args[0])}).backward(retain_graph=False)"
            yield script.mutant("41", "with arguments", [script.replace(s.value, kept)])  # type: ignore[attr-defined]


@plants
def keras(script: Script) -> Iterator[Mutant | None]:
    """Row 42: Keras losses against last layers, tapes, and compile()."""
    if "keras" not in script.text and "tensorflow" not in script.text:
        return
    for node in script.nodes:
        if not isinstance(node, ast.Call):
            continue
        name = last(node.func)
        if name in {"SparseCategoricalCrossentropy", "CategoricalCrossentropy", "BinaryCrossentropy"}:
            logits = keyword(node, "from_logits")
            if logits and isinstance(logits.value, ast.Constant):
                edit = script.replace(logits.value, str(not logits.value.value))
                yield script.mutant("42 logits", "from_logits turned", [edit], script.statement(node))
                if logits.value.value and len(node.keywords) == 1:
                    yield script.mutant(
                        "42 logits", "from_logits removed", [Edit(*script.span(logits), "")], script.statement(node)
                    )
        if name == "Dense" and script.of(node).replace(" ", "").replace("'", '"').endswith('(1,activation="sigmoid")'):
            softmax = script.replace(node, script.of(node).replace("sigmoid", "softmax"))
            yield script.mutant("42 one softmax", "softmax of one unit", [softmax], script.statement(node))
            bare = script.replace(node, f"{script.of(node.func)}(1)")
            if "binary_crossentropy" in script.text and "from_logits" not in script.text:
                compiled = [script.statement(n) for n in script.calls if last(n.func) == "compile"]
                yield script.mutant("42 no sigmoid", "no activation", [bare], script.statement(node), *compiled)
        if name == "apply_gradients":
            statement = script.statement(node)
            gradients = [script.statement(n) for n in script.calls if last(n.func) == "gradient"]
            yield script.mutant("42 not applied", "deleted", [script.delete(statement)], *gradients)
            pairs = node.args[0] if node.args else None
            if isinstance(pairs, ast.Call) and last(pairs.func) == "zip" and len(pairs.args) == 2:
                turned = f"zip({script.of(pairs.args[1])}, {script.of(pairs.args[0])})"
                yield script.mutant("42 zip", "reversed", [script.replace(pairs, turned)], statement)
        if name == "compile" and isinstance(script.statement(node), ast.Expr):
            statement = script.statement(node)
            fits = [
                script.statement(n) for n in script.calls if last(n.func) == "fit" and script.function(n) is script.function(node)
            ]
            later = [f for f in fits if f.lineno > statement.lineno and script.block(f) is script.block(statement)]
            if later and script.alone_on_its_lines(statement):
                model = dotted(node.func.value)  # type: ignore[attr-defined]
                code = script.code(statement)
                yield script.mutant("42 compile", "missing", [script.delete(statement)], later[0])
                yield script.mutant("42 compile", "after fit", [script.delete(statement), script.after(later[0], code)], later[0])
                yield script.mutant(
                    "42 trainable", "frozen after compile", [script.after(statement, f"{model}.trainable = False")]
                )
                layers = f"for layer in {model}.layers[:-1]:\n    layer.trainable = False"
                yield script.mutant("42 trainable", "layers frozen after compile", [script.after(statement, layers)])
            loss = keyword(node, "loss")
            if loss and isinstance(loss.value, ast.Constant) and loss.value.value == "sparse_categorical_crossentropy":
                edit = script.replace(loss.value, '"categorical_crossentropy"')
                yield script.mutant("42 labels", "integer labels", [edit], statement, *fits)
    for node in script.nodes:
        if isinstance(node, ast.With) and "GradientTape" in script.of(node.items[0].context_expr) and len(node.body) > 1:
            final = node.body[-1]
            out = [script.delete(final), Edit(*(script.lines_of(node)[1],) * 2, script.indent(node) + script.code(final) + "\n")]
            after = [script.statement(n) for n in script.calls if last(n.func) == "gradient"]
            yield script.mutant("42 tape", "loss outside the tape", out, node, *after)
