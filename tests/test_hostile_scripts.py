"""Scripts that are made to hurt, given to every rule at once: no rule raises, none takes long, and nothing of them is run."""

from __future__ import annotations

import ast
import random
import signal
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING

import pytest

from traindoctor.check import in_script
from traindoctor.code.project import Project
from traindoctor.code.script import Script
from traindoctor.registry import load_rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from traindoctor.check import Found

CAUSES = [cause for cause in load_rules().causes.values() if cause.script_rules]
SAMPLES = [sample for cause in CAUSES for sample in (*cause.valid_code, *cause.invalid_code) if sample.file.endswith(".py")]
#: Every word that a rule waits for before it looks at a script, so that each one looks at all of these.
WORDS = sorted({word for cause in CAUSES for _, words in cause.script_rules for either in words for word in either.split("|")})
ALL_WORDS = "\n# " + " ".join(WORDS).replace("\n", " ") + "\n"

#: A training script with a bit of everything, for other texts to be planted in.
LOOP = """
import torch
from torch import nn, optim
from torch.utils.data import DataLoader

def train(model, loader, optimizer, scheduler, scaler, epochs=3):
    for epoch in range(epochs):
        model.train()
        total = 0
        for i, (x, y) in enumerate(loader):
            optimizer.zero_grad()
            with torch.autocast("cuda"):
                loss = nn.functional.cross_entropy(model(x), y)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            total += loss.item()
        scheduler.step()

model = nn.Linear(3, 4)
optimizer = optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3)
train(model, DataLoader(data, shuffle=True), optimizer, scheduler, torch.amp.GradScaler())
"""


def findings(text: str, file: str = "train.py", **others: str) -> list[Found] | None:
    """Return what all rules find in a text; None where it is no Python. A rule that raises fails the test."""
    text += ALL_WORDS
    try:
        script = Script(file, text, project=Project.of_texts({file: text, **others}))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found = in_script(script, CAUSES)
    for one in found:
        place = one.mistake.location
        assert 1 <= place.line <= text.count("\n") + 1
        assert place.column >= 1
        for edit in one.mistake.repair.edits if one.mistake.repair else ():
            assert 0 <= edit.start <= edit.stop <= len(text)
    return found


# -- samples, damaged -------------------------------------------------------------------------------------------------


def _is_read(node: ast.AST) -> bool:
    return isinstance(node, ast.expr) and isinstance(getattr(node, "ctx", ast.Load()), ast.Load)


#: Statements that are put between those of a sample.
ODD = (
    "del loss",
    "optimizer, = model,",
    "loss = loss",
    "model = model(model)",
    "(x := loss)",
    "loss: int",
    "lambda: loss.backward()",
)


class Shuffled(ast.NodeTransformer):
    """Changes a tree here and there: statements lost, doubled, exchanged or wrapped, expressions in the place of others."""

    def __init__(self, tree: ast.Module, dice: random.Random) -> None:
        self.dice = dice
        self.expressions = [node for node in ast.walk(tree) if _is_read(node)]

    def visit(self, node: ast.AST) -> ast.AST:
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                setattr(node, name, self.block(block, name))
        if _is_read(node) and self.dice.random() < 0.03:
            return self.dice.choice(self.expressions)
        return self.generic_visit(node)

    def block(self, block: list[ast.stmt], name: str) -> list[ast.stmt]:
        dice = self.dice.random()
        at = self.dice.randrange(len(block))
        if dice < 0.06 and (len(block) > 1 or name != "body"):
            return block[:at] + block[at + 1 :]
        if dice < 0.12:
            return [*block, block[at]]
        if dice < 0.18:
            self.dice.shuffle(block)
        elif dice < 0.24:
            return [*block[:at], *ast.parse(self.dice.choice(ODD)).body, *block[at:]]
        elif dice < 0.30:
            return [ast.If(ast.Name("unknown", ast.Load()), block, [])]
        elif dice < 0.36:
            return [ast.While(ast.Constant(True), block, [])]
        elif dice < 0.40:
            return [ast.Try(block, [ast.ExceptHandler(None, None, [ast.Pass()])], [], [])]
        return block


@pytest.mark.parametrize("seed", range(4))
def test_samples_changed_at_random(seed):
    dice = random.Random(seed)
    checked = 0
    for sample in dice.sample(SAMPLES, min(len(SAMPLES), 400)):
        tree = ast.parse(sample.text)
        try:
            text = ast.unparse(ast.fix_missing_locations(Shuffled(tree, dice).visit(tree)))
        except (RecursionError, ValueError):
            continue  # an expression came to stand within itself
        checked += findings(text, sample.file, **sample.others) is not None
    assert checked > 20


def test_samples_cut_off():
    dice = random.Random(5)
    for sample in dice.sample(SAMPLES, min(len(SAMPLES), 400)):
        findings(sample.text[: dice.randrange(len(sample.text))])
        lines = sample.text.splitlines(keepends=True)
        findings("".join(lines[: dice.randrange(len(lines))]))
        findings("".join(line for line in lines if dice.random() < 0.9))


def test_samples_one_below_the_other():
    dice = random.Random(6)
    for _ in range(10):
        findings("\n".join(sample.text for sample in dice.sample(SAMPLES, 12)))


# -- depth and length -------------------------------------------------------------------------------------------------


def nested(head: str, depth: int, inner: str) -> str:
    return "".join(f"{' ' * level}{head}\n" for level in range(depth)) + f"{' ' * depth}{inner}\n"


@pytest.mark.parametrize(
    "text",
    [
        nested("if a:", 95, "loss.backward()"),
        nested("for epoch in range(2):", 19, "loss.backward(); optimizer.step()"),
        nested("while a:", 19, "loss.backward(); optimizer.step()"),
        nested("def f(loss, optimizer):", 90, "loss.backward(); optimizer.step()"),
        nested("class A:", 90, "loss = model(x).backward()"),
        nested("with torch.no_grad():", 19, "loss.backward()"),
        "loss = " + "(" * 150 + "x" + ")" * 150,
        "loss = " + "f(" * 90 + "x" + ")" * 90 + "\nloss.backward()",
        "loss = " + "x + " * 900 + "x\nloss.backward()",
        "loss = x" + ".a" * 900 + "\nloss.backward()",
        "loss = x" + "[0]" * 900 + "\nloss.backward()",
        "loss = x" + "()" * 90 + "\nloss.backward()",
        "loss = " + "not " * 900 + "x\nloss.backward()",
        "if a:\n    pass\n" + "elif b:\n    optimizer.step()\n" * 300,
        "loss = " + "lambda: " * 90 + "x.backward()",
        "loss = a if b else " * 90 + "c",
        "[" * 90 + "]" * 90,
        "x = f'" + "{x}" * 2000 + "'",
    ],
    ids=range(18),
)
def test_deep_nesting(text):
    findings(LOOP + text)
    findings(text + LOOP)


def test_names_that_stand_for_each_other():
    chain = "\n".join(f"a{n} = a{n + 1}" for n in range(2000)) + "\na2000 = a0\n"
    findings(chain + LOOP.replace("optim.AdamW(", "a0("))
    findings("loss = loss\nmodel = model(model)\noptimizer = optimizer\noptimizer.step = optimizer\n" + LOOP)


def test_functions_that_call_each_other():
    calls = "\n".join(
        f"def f{n}(loss, opt):\n    f{(n * 7 + 1) % 60}(loss, opt)\n    f{(n * 3 + 2) % 60}(opt, loss)\n" for n in range(60)
    )
    findings(f"{calls}\n{LOOP}\nf0(loss, optimizer)\nf59(loss, optimizer)\n")


def test_files_that_import_each_other():
    a = "from b import *\nfrom b import g\ndef f(loss, opt):\n    g(loss, opt)\n" + LOOP + "f(loss, optimizer)\n"
    b = "from a import f\nimport a, b\ndef g(loss, opt):\n    f(loss, opt)\n    b.g(loss, opt)\n"
    assert findings(a, "a.py", **{"b.py": b}) is not None


#: Training functions; steps one below the other; the same in one loop; functions that call each other; schedulers; a table.
KINDS = ("functions", "statements", "one loop", "small functions", "schedulers", "table")
#: CPU seconds that one rule may take for such a file.
LIMIT_S = 5.0


class TooLongError(BaseException):
    """A rule is stopped: no rule can catch it by mistake."""


@cache
def long_script(kind: str) -> Script:
    """Return a script of 50,000 lines, of one thing again and again: KINDS."""
    if kind == "functions":
        times = 50_000 // LOOP.count("\n")
        body = "".join(LOOP.replace("def train(", f"def train{n}(").replace("\ntrain(", f"\ntrain{n}(") for n in range(times))
    elif kind == "statements":
        body = LOOP + "loss.backward()\noptimizer.step()\nx = model(x)\n" * 16_700
    elif kind == "one loop":
        round_ = "    loss.backward()\n    optimizer.step()\n    x = model(x)\n    optimizer.zero_grad()\n"
        body = f"{LOOP}for x in y:\n{round_ * 12_500}"
    elif kind == "small functions":
        one = "def f{0}(loss, opt):\n    loss = f{1}(loss, opt)\n    loss.backward()\n    opt.step()\n    return loss\n"
        body = LOOP + "".join(one.format(n, n + 1) for n in range(10_000)) + "f0(loss, optimizer)\n"
    elif kind == "schedulers":
        built = "opt{0} = optim.SGD(net{0}.parameters(), lr=0.1)\nlr{0} = optim.lr_scheduler.StepLR(opt{0}, 30)\n"
        one = built + "opt{0}.step()\nlr{0}.step()\n"
        body = LOOP + "".join(one.format(n) for n in range(12_500))
    else:
        body = LOOP + "table = {\n" + "".join(f"    'row{n}': [{n}, {n}.5, 'text'],\n" for n in range(50_000)) + "}\n"
    return Script("train.py", body + ALL_WORDS)


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.code)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_50_000_lines_is_checked_in_time(kind, cause):
    script = long_script(kind)

    def stop(*_):
        raise TooLongError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    in_time = True
    try:
        in_script(script, [cause])
    except TooLongError:
        in_time = False
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    if not in_time:
        pytest.fail(f"{cause.code} takes more than {LIMIT_S:g} s", pytrace=False)


# -- valid Python that nobody writes ----------------------------------------------------------------------------------


STRANGE = {
    "match": """
match loss:
    case torch.Tensor(grad=None) | [_, *rest] if rest:
        loss.backward()
    case {'lr': lr, **other}:
        optimizer.step()
    case _:
        pass
""",
    "walrus": """
while (batch := next(it, None)) is not None:
    (loss := model(batch)).backward()
    [y := 1, y**2]
    optimizer.step()
""",
    "stars": """
opt = optim.Adam(*args, **kw, lr=1)
f(*a, *b, **c, **d)
a, *b, (c, *d) = x = y
print(*[*a, *b], {**c})
""",
    "async": """
async def f():
    async for x in loader:
        async with a as b, c:
            (await model(x)).backward()
    return [y async for y in z if await y]
""",
    "decorators": """
@torch.no_grad()
@(lambda f: f)
@a.b[0](c)
def f(): pass
@d
class A(B, metaclass=M, x=1): pass
""",
    "lambda defaults": """
f = lambda x=optim.SGD(model.parameters(), lr=1), *a, k=(lambda: 0)(), **kw: x.step()
f()
""",
    "class body with loops": """
class A:
    opt = optim.SGD(p, 1)
    for i in range(3):
        loss.backward()
        opt.step()
    if i: del i
    x = [opt for opt in range(3)]
""",
    "positional only": """
def f(a, b=1, /, c=2, *, d, e=3, **k): a.backward(); b.step()
f(loss, optimizer, d=1)
f(*x, d=0)
""",
    "f-strings": """
print(f'{loss.item():.{prec}f} {model!r:>{width}} {(lambda: loss.backward())()} {{}} {x=}')
""",
    "global": """
def f():
    global loss, optimizer
    nonlocal_ = 1
    def g():
        nonlocal nonlocal_
        nonlocal_ = 2
    loss.backward()
""",
    "no targets": """
[] = ()
for [] in x: pass
with a as [], b as (c, [d, *e]): pass
for x.y[0], (z, *w) in q: loss.backward()
""",
    "slices": """
x[1:2, ..., ::3, None] = y
x[lambda: 0].step()
del x[:], y.z
x[loss] += loss
""",
    "numbers": """
lr = 1_000.0e-3_0
opt = optim.Adam(p, lr=0x10, eps=1e999, betas=(0b1, 1j), weight_decay=-0.0)
x = 10**400 // 3 % 7
""",
    "big powers": """
opt = optim.Adam(p, lr=10**399**2, eps=2**2**2**2**2, betas=(9**99, 0**-1))
""",
    "strings": """
lr = '1e-3' 'x' "y"
opt = optim.Adam(p, lr='a' * 10**9, eps=b'1' + b'2', betas='ab')
b''
'''doc'''
...
""",
    "chained": """
1 < loss < 2 != 3 is not None
assert loss, optimizer
raise loss from optimizer
""",
    "try star": """
try:
    loss.backward()
except* ValueError as e:
    optimizer.step()
else:
    pass
finally:
    optimizer.zero_grad()
""",
    "loops with else": """
for x in loader:
    loss.backward()
    break
else:
    optimizer.step()
while x:
    continue
else:
    pass
""",
    "semicolons": """
x = 1; loss.backward(); optimizer.step(); optimizer.zero_grad();
if x: loss.backward(); optimizer.step()
""",
    "continued lines": "loss \\\n  . \\\n  backward \\\n  ()\noptimizer.\\\nstep()\n",
    "form feed": "\x0c\nloss.backward()\x0c\noptimizer.step()\n",
    "carriage returns": "loss.backward()\r\noptimizer.step()\r\noptimizer.zero_grad()\r",
    "names of other alphabets": """
модель = nn.Linear(1, 2); потеря = модель(x); потеря.backward(); ﬁ = 1; print('😀', optimizer.step())
""",
    "type hints": """
def f[T](x: T, y: 'loss.backward()' = optimizer.step()) -> (z := 1): ...
type A[T] = list[T]
""",
    "hints": """
loss: torch.Tensor = model(x)
self.loss: int
optimizer: "optim.SGD"
""",
    "generators": """
def f():
    yield
    x = yield loss
    yield from g()
    loss.backward()
sum(l.backward() for l in f() if optimizer.step())
""",
    "shadowed": """
torch = nn = optim = None
range = enumerate = iter = next = print = 0
loss = loss.backward = optimizer = 1
""",
    "methods without self": """
class A(nn.Module):
    def forward(): return 1
    def training_step(*a, **k): a[0].backward()
    def configure_optimizers(self, /): return
""",
    "nothing": "",
    "a comment": "# loss.backward()",
    "keras": """
from tensorflow import keras
m = keras.Sequential()
m.add()
m.add(*a)
m.compile()
m.compile(loss=[])
m.fit()
m.trainable = m.fit()
keras.layers.Dense()()
keras.Model()
with tf.GradientTape() as t, tf.GradientTape(): t.gradient()
t.gradient(t, t)
opt.apply_gradients(zip())
opt.apply_gradients(zip(a, b, c))
""",
    "loaders": """
DataLoader()
DataLoader(*a)
l = DataLoader(l, l, l, l, l)
for l in l: l.backward()
next(iter())
next(iter(l), l)
DistributedSampler()
for x in DataLoader(DataLoader(x)): next(iter(x)).backward()
""",
    "schedulers": """
s = optim.lr_scheduler.StepLR()
s = optim.lr_scheduler.OneCycleLR(s, *s, **s)
s.step(s.step())
LambdaLR(s, lambda: s)
""",
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_but_valid(name):
    text = STRANGE[name]
    findings(text)
    findings(LOOP + text)
    findings(text + LOOP)
    indented = "".join(f"    {line}\n" for line in text.splitlines())
    findings(f"{LOOP}\ndef f(model, optimizer, loss):\n    for epoch in range(3):\n        pass\n{indented}    pass\n")
    body = "".join(f"            {line}\n" for line in text.splitlines())
    findings(LOOP.replace("            total += loss.item()\n", f"{body}            total += loss.item()\n"))


@pytest.mark.parametrize("before", ["ä = '€'; ", "'😀😀'; ", "x = '\u200b\u0301'; ", "\t"])
def test_columns_count_characters(before):
    """A place and an edit hold what they say, whatever stands before them on the line."""
    text = f"import torch\nif True:\n    {before.strip()} opt = torch.optim.Adam(p, lr=1e-3, betas=(0.999, 0.9), eps=-1.0)\n"
    script = Script("train.py", text)
    found = in_script(script, CAUSES)
    line = text.splitlines()[2]
    assert found
    for one in found:
        place = one.mistake.location
        assert place.line == 3
        assert line[place.column - 1 : place.end_column - 1] in line
        assert line[place.column - 1] not in " ,="


# -- nothing is run ---------------------------------------------------------------------------------------------------


def planted(trace: Path) -> Iterator[tuple[str, str]]:
    """Yield scripts that leave a trace when any part of them is run, by a name."""
    bomb = f"open({str(trace)!r}, 'w').write('run')"
    yield "statement", f"{bomb}\n{LOOP}"
    yield "default", f"def f(x={bomb}): pass\n{LOOP}"
    yield "decorator", f"@({bomb})\ndef f(): pass\n{LOOP}"
    yield "class body", f"class A:\n    x = {bomb}\n{LOOP}"
    yield "argument", LOOP.replace("lr=1e-3", f"lr={bomb}")
    yield "f-string", LOOP.replace("lr=1e-3", f'lr=float(f"{{{bomb}}}")')
    yield "hint", f"x: {bomb} = 1\ndef f(a: {bomb}) -> {bomb}: ...\n{LOOP}"
    yield "constructor", f"class Evil(float):\n    def __new__(cls): {bomb}\n{LOOP.replace('lr=1e-3', 'lr=Evil()')}"
    yield "imported", f"import helper\nfrom helper import lr\n{LOOP.replace('lr=1e-3', 'lr=lr')}"


def test_no_script_is_run(tmp_path):
    trace = tmp_path / "trace"
    folder = tmp_path / "project"
    folder.mkdir()
    for name, text in planted(trace):
        (folder / f"{name.replace(' ', '_').replace('-', '_')}.py").write_text(text)
        assert findings(text, **{"helper.py": f"lr = open({str(trace)!r}, 'w').write('run')\n"}) is not None
    (folder / "helper.py").write_text(f"lr = open({str(trace)!r}, 'w').write('run')\n")
    (folder / "conftest.py").write_text(f"open({str(trace)!r}, 'w').write('run')\n")
    (folder / "sitecustomize.py").write_text(f"open({str(trace)!r}, 'w').write('run')\n")
    done = subprocess.run(
        [sys.executable, "-m", "traindoctor", "check", "."], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1), done.stderr
    assert not trace.exists()
