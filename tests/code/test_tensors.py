# ruff: noqa: E501

import ast

import pytest

from traindoctor.code.kept import kept_losses
from traindoctor.code.losses import rewrapped
from traindoctor.code.project import Project

HEAD = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n"


def script_of(text, **others):
    project = Project.of_texts({"train.py": text, **{f"{name}.py": other for name, other in others.items()}})
    return project.script("train.py")


def seen(text, name="probe", **others):
    """Return what is known of the argument of the call of `name`, form and flow of each path."""
    script = script_of(HEAD + text, **others)
    call = script.calls[name][0]
    return {(t.form, t.flow) for t in script.tensors.of(call.args[0], script.tensors.frame(call))}


class TestDefinitions:
    def kinds(self, text, path="a"):
        script = script_of(text)
        use = next(n for n in script.nodes[ast.Call] if script.dotted(n.func) == "use")
        definitions, opened = script.definitions.reaching(path, use)
        return sorted(script.source(d.value) if d.value is not None else d.kind for d in definitions), opened

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a = 1\na = 2\nuse(a)", ["2"]),
            ("a = 1\nif c:\n    a = 2\nuse(a)", ["1", "2"]),
            ("a = 1\nif c:\n    a = 2\nelse:\n    a = 3\nuse(a)", ["2", "3"]),
            ("a = 1\nif c:\n    a = 2\n    raise E\nuse(a)", ["1"]),
            ("a = 1\nwith b:\n    a = 2\nuse(a)", ["2"]),
            ("with b as a:\n    use(a)", ["b"]),
            ("a = 1\nfor x in y:\n    use(a)\n    a = 2", ["1", "2"]),
            ("a = 1\nfor a in y:\n    use(a)", ["y"]),
            ("a = 1\nwhile c:\n    a = 2\nuse(a)", ["1", "2"]),
            ("a = 0\ntry:\n    a = 1\nexcept E:\n    a = 2\nuse(a)", ["1", "2"]),
            ("a = 0\ntry:\n    a = 1\nexcept E:\n    use(a)", ["0", "1"]),
            ("a = 0\ntry:\n    a = 1\nfinally:\n    use(a)", ["0", "1"]),
            ("b, (c, a) = 1, (2, 3)\nuse(a)", ["3"]),
            ("a += 1\nuse(a)", ["1"]),
            ("match c:\n    case 1:\n        a = 1\n    case _:\n        a = 2\nuse(a)", ["1", "2"]),
            ("a = 1\n[a for a in y]\nuse(a)", ["1"]),
        ],
    )
    def test_what_a_use_may_see(self, text, expected):
        assert self.kinds(text)[0] == expected

    def test_a_parameter_and_what_lies_outside(self):
        assert self.kinds("def f(a):\n    use(a)") == (["parameter"], False)
        assert self.kinds("a = 1\ndef f():\n    use(a)") == ([], True)

    def test_an_attribute(self):
        assert self.kinds("def f(self):\n    self.a = 1\n    use(self.a)", "self.a") == (["1"], False)


class TestTensors:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("p = torch.softmax(model(x), 1)\nprobe(p.view(-1).float())", {("softmax", "live")}),
            ("probe(model(x).softmax(1).log())", {("log_softmax", "live")}),
            ("probe(torch.log(F.softmax(model(x), 1) + 1e-8))", {("log_softmax", "live")}),
            ("probe(F.log_softmax(model(x), 1).exp())", {("softmax", "live")}),
            ("probe(nn.Sigmoid()(model(x)))", {("sigmoid", "live")}),
            ("probe(1 - model(x).sigmoid())", {("", "live")}),
            ("m = nn.Sequential(nn.Linear(1, 2), nn.Dropout(0.1))\nprobe(m(x))", {("logits", "live")}),
            ("m = nn.Sequential(nn.Linear(1, 2), nn.ReLU())\nprobe(m(x))", {("", "live")}),
            ("m = nn.DataParallel(nn.Sequential(*layers, nn.Linear(1, 2)).cuda())\nprobe(m(x))", {("logits", "live")}),
            ("m = nn.Sequential(*layers)\nprobe(m(x))", {("", "live")}),
            ("probe(unknown(x))", {("", "")}),
            ("probe(model(x).detach() * 2)", {("", "cut")}),
            ("probe(model(x).detach() + model(x))", {("", "live")}),
            ("probe(model(x).argmax(1).float().mean())", {("", "cut")}),
            ("probe(torch.max(model(x), 1)[1])", {("", "cut")}),
            ("probe(torch.max(model(x), 1)[0])", {("", "live")}),
            ("values, indices = model(x).topk(3)\nprobe(indices)", {("", "cut")}),
            ("probe(model(x).max(1).indices)", {("", "cut")}),
            ("with torch.no_grad():\n    z = model(x)\nprobe(z)", {("", "cut")}),
            ("with torch.no_grad():\n    with torch.enable_grad():\n        probe(model(x))", {("", "live")}),
            ("for x, y in loader:\n    probe(y.to('cuda').view(-1))", {("", "data")}),
            ("probe(torch.randn(3, 4))", {("", "data")}),
            ("probe(torch.randn(3, 4, requires_grad=True))", {("", "live")}),
            ("z = model(x).detach()\nz.requires_grad = True\nprobe(z)", {("", "live")}),
            (
                "class T:\n    def f(self):\n        self.a = torch.zeros(1)\n        self.a.requires_grad = True\n        probe(self.a)",
                {("", "live")},
            ),
            ("m = nn.Sequential()\nm.add_module('a', nn.Linear(1, 2))\nprobe(m(x))", {("", "live")}),
            ("probe(D(G(x).detach()))", {("", "")}),
            ("z = model(x)\nif c:\n    z = z.softmax(1)\nprobe(z)", {("", "live"), ("softmax", "live")}),
            ("z = model(x) if c else model(x).sigmoid()\nprobe(z)", {("", "live"), ("sigmoid", "live")}),
            ("h = model(x)\nfor i in r:\n    h = h.view(-1)\nprobe(h)", {("", "live")}),
        ],
    )
    def test_form_and_flow(self, text, expected):
        assert seen(text) == expected

    def test_forward_of_a_class_with_two_results(self):
        net = "class Net(nn.Module):\n    def forward(self, x):\n        z = self.fc(x)\n        return z, z.softmax(1)\n"
        init = net.replace("    def f", "    def __init__(self):\n        self.fc = nn.Linear(1, 2)\n    def f")
        assert seen(init + "z, p = Net()(x)\nprobe(z)") == {("logits", "live")}
        assert seen(init + "z, p = Net()(x)\nprobe(p)") == {("softmax", "live")}
        assert seen(init + "out = Net()(x)\nprobe(out[1])") == {("softmax", "live")}

    def test_layer_given_to_the_constructor(self):
        net = (
            "class Net(nn.Module):\n    def __init__(self, last):\n        self.last = last\n"
            "    def forward(self, x):\n        return self.last(x)\n"
        )
        assert seen(net + "probe(Net(nn.Softmax(1))(model(x)))") == {("softmax", "live")}
        assert seen(net + "probe(Net(nn.Linear(1, 2))(model(x)))") == {("logits", "live")}

    def test_layer_that_is_replaced_from_outside(self):
        net = (
            "class Net(nn.Module):\n    def __init__(self):\n        self.fc = nn.Linear(1, 2)\n"
            "    def forward(self, x):\n        return self.fc(x)\nm = Net()\n"
        )
        assert seen(net + "probe(m(x))") == {("logits", "live")}
        assert seen(net + "m.fc = head\nprobe(m(x))") == {("", "live")}

    def test_method_of_a_base_in_another_file(self):
        base = "from torch import nn\nclass Base(nn.Module):\n    def forward(self, x):\n        return self.body(x).sigmoid()\n"
        text = "from base import Base\nclass Net(Base):\n    def __init__(self):\n        self.body = nn.Linear(1, 1)\nprobe(Net()(x))"
        assert seen(text, base=base) == {("sigmoid", "live")}

    def test_parameters_from_the_calls_of_the_file(self):
        text = "def f(p):\n    probe(p)\nf(model(x).softmax(1))\n"
        assert seen(text) == {("softmax", "live")}
        assert seen(text + "f(model(x))") == {("softmax", "live"), ("", "live")}
        assert seen(text + "f(*args)") == {("", "")}

    @pytest.mark.parametrize(
        "text",
        [
            "def f(x):\n    return f(x)\nprobe(f(x))",
            "class A(A):\n    def forward(self, x):\n        return self(x)\nprobe(A()(x))",
            "a = b\nb = a\nprobe(a)",
            "def f(x):\n    return g(x)\ndef g(x):\n    return f(x)\nprobe(f(x))",
            "class A:\n    def __init__(self):\n        self.a = self.b\n        self.b = self.a\n    def f(self):\n        probe(self.a)",
            "probe(" + "(" * 60 + "x" + ")" * 60 + ")",
            "probe(x" + ".view(1)" * 150 + ")",
            "probe(" + " + ".join(["model(x)"] * 300) + ")",
            "z = 0\n" + "if c:\n    z = z + model(x)\nelse:\n    z = z - model(x)\n" * 60 + "probe(z)",
            "probe(torch.max())",
            "probe(F.softmax())",
            "lambda: probe(F.softmax(*a))",
            "from probe import probe\nprobe(probe)",
        ],
    )
    def test_what_has_no_end_or_no_sense_has_an_answer(self, text):
        assert seen(text)

    def test_hostile_shapes_of_imports(self):
        assert seen("from other import f\nprobe(f(x))", other="from train import f\n") == {("", "")}


class TestLosses:
    def kinds(self, text):
        return [loss.kind for loss in script_of(HEAD + text).losses.calls]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("F.cross_entropy(z, y)", ["cross_entropy"]),
            ("F.cross_entropy(input=z, target=y)", ["cross_entropy"]),
            ("nn.BCELoss()(z, y)", ["bce"]),
            ("crit = nn.NLLLoss().cuda()\ncrit(z, y)", ["nll"]),
            ("crit = {'a': nn.NLLLoss()}\ncrit['a'](z, y)", ["nll"]),
            ("crit = {'a': nn.NLLLoss(), 'b': nn.L1Loss()}\ncrit[k](z, y)", []),
            ("crit = nn.NLLLoss() if c else nn.CrossEntropyLoss()\ncrit(z, y)", []),
            ("crit = Mine()\ncrit(z, y)", []),
            ("def f(loss_fn):\n    loss_fn(z, y)\nf(nn.MSELoss())", ["mse"]),
            ("class T:\n    def __init__(self):\n        self.c = nn.L1Loss()\n    def f(self):\n        self.c(z, y)", ["l1"]),
            ("def make():\n    return nn.BCEWithLogitsLoss()\ncriterion = make()\ncriterion(z, y)", ["bce_logits"]),
            ("model, criterion = accelerator.prepare(Net(), nn.CrossEntropyLoss())\ncriterion(z, y)", ["cross_entropy"]),
        ],
    )
    def test_which_loss_a_call_computes(self, text, expected):
        assert self.kinds(text) == expected

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("loss = a(x) + 2 * b(x)\nloss.backward()", ["a(x)", "b(x)"]),
            ("loss = a(x)\nloss += b(x)\nloss /= 4\nscaler.scale(loss).backward()", ["a(x)", "b(x)"]),
            ("loss = torch.stack([a(x), b(x)]).mean()\naccelerator.backward(loss)", ["a(x)", "b(x)"]),
            ("with amp.scale_loss(a(x), opt) as scaled:\n    scaled.backward()", ["a(x)"]),
            ("def f(x):\n    return a(x)\nf(x).backward()", ["a(x)", "f(x)"]),
            ("class M:\n    def training_step(self, b, i):\n        return {'loss': a(b), 'log': c(b)}", ["a(b)"]),
            (
                "class M(Trainer):\n    def compute_loss(self, m, x):\n        loss = a(x)\n        return (loss, o) if r else loss",
                ["a(x)"],
            ),
            ("class M:\n    def training_step(self, b, i):\n        self.manual_backward(a(b))", ["a(b)"]),
            ("loss = a(x)\nloss = loss\nloss.backward(retain_graph=True)", ["a(x)"]),
        ],
    )
    def test_summands_of_what_is_differentiated(self, text, expected):
        script = script_of(HEAD + text)
        assert sorted(script.source(term.node) for term in script.losses.terms) == expected

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("torch.tensor(loss)", "loss"),
            ("Variable(loss.data, requires_grad=True)", "loss.data"),
            ("loss.detach().clone().requires_grad_(True)", "loss"),
            ("loss.data.requires_grad_()", "loss"),
            ("loss.requires_grad_()", None),
            ("loss.clone()", None),
            ("loss", None),
        ],
    )
    def test_new_tensors(self, text, expected):
        script = script_of(text)
        inner = rewrapped(script.tree.body[0].value)
        assert (None if inner is None else script.source(inner)) == expected


def test_what_is_kept_names_the_loss_and_its_holder():
    text = (
        "total = 0\nfor x, y in dl:\n    loss = F.cross_entropy(model(x), y)\n    loss.backward()\n    total += loss / len(dl)\n"
    )
    (kept,) = kept_losses(script_of(HEAD + text))
    assert (kept.loss.id, kept.holder, kept.is_scalar) == ("loss", "total", True)
