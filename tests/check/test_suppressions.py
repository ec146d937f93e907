import json

import pytest

from tests.check.conftest import found


def remarks(result):
    return [(one.kind, one.line) for file in result.files for one in file.remarks]


@pytest.mark.parametrize(
    "line",
    [
        "bad()  # traindoctor: ignore[TD901] -- it is meant so",
        "bad()  #traindoctor:ignore[td901]-- it is meant so",
        "bad()  # noqa  # traindoctor: ignore[TD902, TD901] -- two",
        "# traindoctor: ignore[TD901] -- on the line above\nbad()",
        "# traindoctor: ignore[TD901] -- above\n\n# and more\nbad()",
        "x = [\n    bad(),\n    1,  # traindoctor: ignore[TD901] -- a later line of the statement\n]",
        "x = [  # traindoctor: ignore[TD901] -- an earlier line\n    bad(),\n]",
        "if bad():  # traindoctor: ignore[TD901] -- the head of a block\n    pass",
        "if True:\n    # traindoctor: ignore[TD901] -- indented\n    bad()",
        "# traindoctor: ignore-file[TD901] -- the whole file\nbad()\nbad()",
        "bad()\nbad()\n# traindoctor: ignore-file[TD901] -- wherever it stands",
        "x = 1\r# traindoctor: ignore[TD901] -- line ends of old\rbad()",
    ],
)
def test_a_comment_silences_its_statement(tree, check, line):
    tree(**{"a.py": f"import torch\n{line}\n"})
    result = check("a.py")
    assert found(result) == []
    assert result.files[0].n_silenced >= 1
    assert not [kind for kind, _ in remarks(result) if kind != "unused"]


@pytest.mark.parametrize(
    "text",
    [
        "bad()\n# traindoctor: ignore[TD901] -- the line below\nx = 1\n",
        "# traindoctor: ignore[TD901] -- not so far\nx = 1\nbad()\n",
        "x = '# traindoctor: ignore[TD901] -- in a string'; bad()\n",
        "for x in y:  # traindoctor: ignore[TD901] -- the head, not the body\n    bad()\n",
        "bad()  # traindoctor: ignore[TD902] -- another\n",
        "bad()  # traindoctor: ignore -- all\n",
        "bad()  # traindoctor: ignore[] -- all\n",
    ],
)
def test_and_no_other(tree, check, text):
    tree(**{"a.py": f"import torch\n{text}"})
    assert len(found(check("a.py"))) == 1


def test_what_is_wrong_with_comments_is_said(tree, check):
    tree(
        **{
            "a.py": "import torch\n"
            "bad()  # traindoctor: ignore[TD901]\n"
            "x = 1  # traindoctor: ignore[TD901] -- nothing here\n"
            "bad()  # traindoctor: ignore\n"
            "y = 1  # traindoctor: ignore[TD999] -- no such\n"
            "z = 1  # traindoctor: skip[TD901] -- no such\n"
            "z = 1  # traindoctor: ignore[TD903] -- not asked for\n"
        }
    )
    result = check("a.py", ignore=("TD903",))
    assert remarks(result) == [("no-reason", 2), ("unused", 3), ("blanket", 4), ("unknown", 5), ("unknown", 6)]
    assert result.files[0].remarks[1].codes == ("TD901",)


@pytest.mark.parametrize(
    "text",
    [
        "optimizer: adam\nlr: 3  # traindoctor: ignore[TD902] -- a test\n",
        "optimizer: adam\n# traindoctor: ignore[TD902] -- a test\nlr: 3\n",
        "# traindoctor: ignore-file[TD902] -- a test\noptimizer: adam\nlr: 3\n",
        "optimizer: adam  # traindoctor: ignore-file[TD902] -- a test\nlr: 3\nurl: http://x#y\n",
        "# traindoctor: ignore[TD902] -- over lines\noptimizer: {name: adam,\n  lr: 3}\n",
        'optimizer: {  # traindoctor: ignore[TD902] -- over lines\n  name: "a]",\n  lr: 3,\n}\n',
        "optimizer: adam\nname: 'x\u2028'\nlr: 3  # traindoctor: ignore[TD902] -- after what is no line end\n",
    ],
)
def test_configs(tree, check, text):
    tree(**{"a.yaml": text})
    result = check("a.yaml")
    assert found(result) == []
    assert result.files[0].n_silenced == 1


def test_a_sign_inside_a_word_begins_no_comment(tree, check):
    tree(**{"a.yaml": "optimizer: adam\nlr: 3\nurl: x#traindoctor:ignore-file[TD902]--no\n"})
    assert len(found(check("a.yaml"))) == 1


def test_notebooks(tree, check):
    cells = [
        "import torch\nbad()",
        "%time x\nbad()  # traindoctor: ignore[TD901] -- here\nx = 1  # traindoctor: ignore[TD901] -- no",
    ]
    whole = {"cells": [{"cell_type": "code", "source": cell} for cell in cells]}
    tree(**{"a.ipynb": json.dumps(whole)})
    result = check("a.ipynb")
    assert found(result) == [("TD901", "a.ipynb:cell 1:2")]
    assert [(one.cell, one.line) for one in result.files[0].remarks] == [(2, 3)]
