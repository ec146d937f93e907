import ast

import pytest

from traindoctor.code.loaders import around, data_loaders, named_for_training, named_in_order, trains, uses
from traindoctor.code.project import Project
from traindoctor.code.script import LOOPS, Script

HEAD = "import torch\nfrom torch.utils.data import DataLoader\n"


def lines_of_loops(text, **others):
    """Return where the one loader of a script is read: file and line of each loop."""
    files = {"train.py": HEAD + text, **{f"{name}.py": other for name, other in others.items()}}
    script = Script("train.py", files["train.py"], project=Project.of_texts(files))
    (call,) = data_loaders(script)
    return [(use.script.file, use.node.lineno) for use in uses(script, call) if isinstance(use.node, LOOPS)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("loader = DataLoader(data)\nfor x in loader: pass", 4),
        ("loader = DataLoader(data)\nfor i, x in tqdm(enumerate(loader)): pass", 4),
        ("loader = DataLoader(data)\nfor x in log_every(loader, 10): pass", 4),
        ("a, b = DataLoader(data), None\nfor x in a: pass", 4),
        ("loaders = {'train': DataLoader(data), 'val': None}\nfor x in loaders['train']: pass", 4),
        ("loaders = {'train': DataLoader(data), 'val': None}\nfor x in loaders[phase]: pass", 4),
        ("loader = prepare(DataLoader(data))\nfor x in loader: pass", 4),
        ("m, loader = accelerator.prepare(m, DataLoader(data))\nfor x in loader: pass", 4),
        ("def make():\n    return DataLoader(data), 1\nloader, n = make()\nfor x in loader: pass", 6),
        ("def run(model, batches):\n    for x in batches: pass\nrun(net, DataLoader(data))", 4),
        ("def run(model, batches):\n    for x in batches: pass\nrun(net, batches=DataLoader(data))", 4),
        ("batches = iter(DataLoader(data))\nwhile True:\n    x = next(batches)", 4),
        (
            "class T:\n    def __init__(self):\n        self.loader = DataLoader(data)\n    def run(self):\n"
            "        for x in self.loader: pass",
            7,
        ),
        (
            "class T:\n    def __init__(self, loader):\n        self.loader = loader\n    def run(self):\n"
            "        for x in self.loader: pass\nT(DataLoader(data)).run()",
            7,
        ),
    ],
)
def test_a_loader_is_followed_to_the_loop_that_reads_it(text, line):
    assert lines_of_loops(text) == [("train.py", line)]


@pytest.mark.parametrize(
    "text",
    [
        "loader = DataLoader(data)\nfor x in other: pass",
        "loaders = {'train': DataLoader(data), 'val': v}\nfor x in loaders['val']: pass",
        "a, b = DataLoader(data), other\nfor x in b: pass",
        "def f(loader):\n    for x in loader: pass\nloader = DataLoader(data)",
        "loader = DataLoader(data)\nprint(len(loader))",
    ],
)
def test_another_name_is_not_the_loader(text):
    assert lines_of_loops(text) == []


def test_a_loader_is_followed_into_a_file_beside():
    found = lines_of_loops(
        "from engine import fit\nfit(net, DataLoader(data))", engine="def fit(m, batches):\n    for x in batches: pass"
    )
    assert found == [("engine.py", 2)]


def test_loops_around_a_use_are_those_of_the_callers_too():
    text = HEAD + "def run(batches):\n    for x in batches: pass\nfor epoch in range(3):\n    run(DataLoader(data))\n"
    script = Script("train.py", text)
    (use,) = uses(script, data_loaders(script)[0])
    assert [loop.target.id for _, loop in around(use)] == ["epoch"]


def test_a_loop_trains_where_a_helper_runs_the_backward_pass():
    script = Script("train.py", "def step(x):\n    net(x).backward()\nfor x in a:\n    step(x)\nfor x in b:\n    net(x)\n")
    loops = script.nodes[ast.For]
    assert [trains(script, loop) for loop in loops] == [True, False]


def test_helpers_that_call_each_other_end():
    script = Script("train.py", "def a():\n    b()\ndef b():\n    a()\nfor x in y:\n    a()\n")
    assert not trains(script, script.nodes[ast.For][0])


@pytest.mark.parametrize("name", ["train_loader", "trainloader", "TrainLoader", "dl_train", "training_data", "self.train_dl"])
def test_names_for_training(name):
    assert named_for_training(name)


@pytest.mark.parametrize(
    "name", ["val_loader", "test", "train_eval_loader", "trained", "trainer", "loader", "train_features", "valloader"]
)
def test_names_for_something_else(name):
    assert not named_for_training(name)


@pytest.mark.parametrize(
    ("name", "in_order"), [("valid_loader", True), ("testloader", True), ("loader", False), ("interval_loader", False)]
)
def test_names_of_loaders_that_are_read_in_order(name, in_order):
    assert named_in_order(name) == in_order


def test_a_loader_of_another_library_is_none():
    script = Script("train.py", "from mine import DataLoader\nloader = DataLoader(data)\n")
    assert data_loaders(script) == []
