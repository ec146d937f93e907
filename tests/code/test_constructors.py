import pytest

from traindoctor.code.constructors import half_precision
from traindoctor.code.script import Script
from traindoctor.optim.names import HUGGING_FACE, nearest
from traindoctor.optim.signatures import TORCH_CLASSES, signature


def built(text, file="train.py"):
    return Script(file, text).constructions


def one(text):
    (made,) = built(text)
    return made


class TestWhichCallsBuildAnOptimizer:
    @pytest.mark.parametrize(
        ("text", "name", "library"),
        [
            ("import torch\ntorch.optim.AdamW(ps)", "adamw", "PyTorch"),
            ("import torch.optim as optim\noptim.SGD(ps)", "sgd", "PyTorch"),
            ("from torch import optim as o\no.NAdam(ps)", "nadam", "PyTorch"),
            ("from torch.optim import Adam as A\nA(ps)", "adam", "PyTorch"),
            ("from torch.optim.adam import Adam\nAdam(ps)", "adam", "PyTorch"),
            ("from torch.optim import *\nRMSprop(ps)", "rmsprop", "PyTorch"),
            ("import torch\ncls = torch.optim.Adagrad\ncls(ps)", "adagrad", "PyTorch"),
            ("import torch, functools\nfunctools.partial(torch.optim.Adam, lr=1)", "adam", "PyTorch"),
            ("import bitsandbytes as bnb\nbnb.optim.PagedAdamW8bit(ps)", "adamw", "bitsandbytes"),
            ("from apex.optimizers import FusedLAMB\nFusedLAMB(ps)", "lamb", "apex"),
            ("from deepspeed.ops.adam import DeepSpeedCPUAdam\nDeepSpeedCPUAdam(ps)", "adamw", "DeepSpeed"),
            ("from lion_pytorch import Lion\nLion(ps)", "lion", "lion-pytorch"),
            ("from transformers import AdamW\nAdamW(ps)", "adamw", "Transformers"),
            ("import tensorflow as tf\ntf.keras.optimizers.legacy.Adam()", "adam", "Keras"),
            ("from tensorflow import keras\nkeras.optimizers.SGD()", "sgd", "Keras"),
            ("from keras import optimizers\noptimizers.Nadam()", "nadam", "Keras"),
            ("import optax\noptax.adamw(1e-3)", "adamw", "Optax"),
        ],
    )
    def test_known_ones(self, text, name, library):
        made = one(text)
        assert (made.name, made.signature.library) == (name, library)

    @pytest.mark.parametrize(
        "text",
        [
            "Adam(ps)",
            "from mine.optim import Adam\nAdam(ps)",
            "from .optim import SGD\nSGD(ps)",
            "import torch\ngetattr(torch.optim, name)(ps)",
            "import torch\ncls = torch.optim.SGD if a else torch.optim.Adam\ncls(ps)",
            "import torch\ntorch.optim.lr_scheduler.StepLR(opt, 3)",
            "class Adam:\n    pass\nAdam(ps)",
        ],
    )
    def test_others_are_not_followed(self, text):
        assert built(text) == []

    def test_they_come_in_the_order_of_the_text(self):
        made = built("import torch\na = torch.optim.SGD(p)\nb = torch.optim.Adam(p)\nc = torch.optim.SGD(p)")
        assert [m.name for m in made] == ["sgd", "adam", "sgd"]


class TestSettings:
    def test_by_position_and_by_keyword(self):
        made = one("import torch\ntorch.optim.SGD(ps, 0.1, 0.9, weight_decay=5e-4)")
        assert [made.given(s).value for s in ("lr", "momentum", "weight_decay")] == [0.1, 0.9, 5e-4]
        assert made.given("nesterov") is None
        assert made.value("dampening") is None

    def test_frameworks_call_them_otherwise(self):
        made = one("import keras\nkeras.optimizers.Adam(1e-3, 0.8, beta_2=0.99, epsilon=1e-5)")
        assert [made.given(s).value for s in ("lr", "beta1", "beta2", "eps")] == [1e-3, 0.8, 0.99, 1e-5]

    def test_what_is_not_set_has_the_default_of_its_framework(self):
        assert one("import torch\ntorch.optim.Adam(ps)").value("eps") == 1e-8
        assert one("import keras\nkeras.optimizers.Adam()").value("eps") == 1e-7
        assert one("import torch\ntorch.optim.AdamW(ps)").value("weight_decay") == 0.01
        assert one("import torch\ntorch.optim.AdamW(ps, **more)").value("weight_decay") is None

    @pytest.mark.parametrize(
        ("text", "line", "sure"),
        [
            ("torch.optim.Adam(ps, lr=0.5)", 2, True),
            ("LR = 0.5\ntorch.optim.Adam(ps, lr=LR)", 2, True),
            ("kw = dict(lr=0.5)\ntorch.optim.Adam(ps, **kw)", 2, True),
            ("kw = {\n'lr': 0.5}\ntorch.optim.Adam(ps, **kw)", 3, True),
            ("def f(lr=0.5):\n    torch.optim.Adam(ps, lr=lr)", 2, False),
            ("def f(lr):\n    torch.optim.Adam(ps, lr=lr)\nf(0.5)", 4, True),
            ("def f(m, lr=0.1):\n    torch.optim.Adam(ps, lr=lr)\nf(m, lr=0.5)", 4, True),
            ("class T:\n    def __init__(self, lr):\n        torch.optim.Adam(ps, lr=lr)\nT(0.5)", 5, True),
            ("p.add_argument('--lr', default=0.5)\nargs = p.parse_args()\ntorch.optim.Adam(ps, lr=args.lr)", 2, False),
            ("p.add_argument('--rate', dest='lr', default=0.5)\ntorch.optim.Adam(ps, lr=args.lr)", 2, False),
            ("class C:\n    lr = 0.5\nc = C()\ntorch.optim.Adam(ps, lr=c.lr)", 3, False),
            ("class C:\n    lr: float = 0.5\ntorch.optim.Adam(ps, lr=C.lr)", 3, False),
            ("class C:\n    lr: float = 0.1\nc = C(\nlr=0.5)\ntorch.optim.Adam(ps, lr=c.lr)", 5, False),
            ("config = {'lr': 0.5}\ntorch.optim.Adam(ps, lr=config['lr'])", 2, False),
        ],
    )
    def test_where_a_value_is_written_and_whether_another_may_stand_for_it(self, text, line, sure):
        (made,) = built("import torch\n" + text)
        given = made.given("lr")
        assert (given.value, given.node.lineno, given.sure) == (0.5, line, sure)

    @pytest.mark.parametrize(
        "text",
        [
            "lr = 0.5\nlr = 0.1\ntorch.optim.Adam(ps, lr=lr)",
            "def f(lr):\n    torch.optim.Adam(ps, lr=lr)\nf(0.1)\nf(0.5)",
            "torch.optim.Adam(ps, lr=args.lr)",
            "p.add_argument('--lr')\ntorch.optim.Adam(ps, lr=args.lr)",
            "torch.optim.Adam(ps, lr=0.5 * n)",
            "torch.optim.Adam(ps, lr=config['lr'])",
        ],
    )
    def test_what_is_not_known_is_not_guessed(self, text):
        assert one("import torch\n" + text).given("lr") is None

    def test_a_default_weighs_less(self):
        made = one("import torch\ndef f(lr=0.5):\n    torch.optim.Adam(ps, lr=lr)")
        assert made.given("lr").severity("error") == "warning"
        assert made.given("lr").severity("warning") == "info"

    def test_each_beta_of_a_pair(self):
        made = one("import torch\ntorch.optim.Adam(ps, betas=(args.b1, 0.99))")
        assert made.given("beta1") is None
        assert made.given("beta2").value == 0.99

    def test_parameter_groups(self):
        made = one("import torch\ngs = [{'params': a, 'lr': 1.0}, dict(params=b)]\ntorch.optim.SGD(gs, lr=0.1)")
        assert [(g.value, g.in_group) for g in made.everywhere("lr")] == [(0.1, False), (1.0, True)]

    def test_nothing_recursive_hangs(self):
        assert one("import torch\ndef f(lr):\n    torch.optim.SGD(ps, lr=lr)\n    f(lr)").given("lr") is None


class TestWhatItHolds:
    @pytest.mark.parametrize(
        ("held", "models"),
        [
            ("m.parameters()", {"m"}),
            ("self.net.parameters()", {"self.net"}),
            ("filter(lambda p: p.requires_grad, m.parameters())", {"m"}),
            ("[p for n, p in m.named_parameters()]", {"m"}),
            ("list(a.parameters()) + list(b.parameters())", {"a", "b"}),
            ("[{'params': a.parameters()}, {'params': b.get_lr_params()}]", {"a", "b"}),
            ("[image]", set()),
        ],
    )
    def test_models(self, held, models):
        assert one(f"import torch\ntorch.optim.SGD({held}, lr=0.1)").models == models

    @pytest.mark.parametrize(
        ("cast", "found"),
        [
            ("m.half()", True),
            ("m = Net().cuda().half()", True),
            ("m.to(device, torch.float16)", True),
            ("m = A.from_pretrained('x', torch_dtype=torch.float16)", True),
            ("other.half()", False),
            ("m.to(torch.bfloat16)", False),
            ("x = m(y.half())", False),
            ("m.half()\nm.float()", False),
        ],
    )
    def test_half_precision(self, cast, found):
        script = Script("train.py", f"import torch\n{cast}\nopt = torch.optim.Adam(m.parameters())")
        (made,) = script.constructions
        assert bool(list(half_precision(script, "m", made.node))) == found


class TestSignatures:
    def test_those_of_torch_are_complete(self):
        torch = pytest.importorskip("torch")
        import inspect

        for name in TORCH_CLASSES:
            if not hasattr(torch.optim, name):
                continue
            known = signature(f"torch.optim.{name}")
            real = [p for p in inspect.signature(getattr(torch.optim, name)).parameters if p != "params"]
            assert set(real) <= known.accepts, name
            assert tuple(real[: len(known.positional)]) == known.positional, name

    def test_every_class_of_torch_is_known(self):
        torch = pytest.importorskip("torch")
        real = {n for n in dir(torch.optim) if isinstance(getattr(torch.optim, n), type)} - {"Optimizer"}
        assert real <= set(TORCH_CLASSES)

    @pytest.mark.parametrize(("name", "near"), [("adamw_trch", "adamw_torch"), ("lionn_8bit", "lion_8bit"), ("mine", "")])
    def test_nearest_name(self, name, near):
        assert nearest(name, HUGGING_FACE) == near
