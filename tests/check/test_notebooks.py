import ast
import json

import pytest

from tests.check.conftest import found
from traindoctor.check.notebooks import rewritten, script_of
from traindoctor.check.sources import UnusableError
from traindoctor.mistake import Edit


def notebook(*cells, **more):
    made = [{"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": cell} for cell in cells]
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **more}, indent=1)


def test_cells_become_one_script():
    text, made = script_of(notebook(["import torch\n", "x = 1"], "y = 2\nz = 3\n"))
    assert [(cell.number, text.splitlines()[cell.first_line - 1]) for cell in made.cells] == [(1, "import torch"), (2, "y = 2")]
    ast.parse(text)


@pytest.mark.parametrize(
    "line",
    [
        "%matplotlib inline",
        "!pip install torch",
        "  !ls",
        "out = !ls",
        "t = %time f()",
        "?torch",
        "torch.nn?",
        "!x",
        "%cd a \\\nb",
    ],
)
def test_lines_of_ipython_do_nothing_and_keep_their_length(line):
    text, made = script_of(notebook(f"if a:\n  b()\n{line}\nbad()"))
    assert not made.broken
    assert text.index("bad()") == len(f"if a:\n  b()\n{line}\n")


def test_a_command_of_the_shell_may_go_on_in_lines_of_any_indent():
    cell = "!pip install -q \\\n    torch \\\n  timm\nimport torch\n"
    text, notebook = script_of(json.dumps({"cells": [{"cell_type": "code", "source": cell}]}))
    assert notebook.broken == ()
    assert len(text) == len(cell) + 1
    assert text.splitlines()[3] == "import torch"


def test_a_modulo_is_no_magic():
    text, _ = script_of(notebook("x = (a\n% b)"))
    assert text.startswith("x = (a\n% b)")


def test_cells_of_other_languages_are_blank():
    text, made = script_of(notebook("%%bash\nls -l ("))
    assert not text.strip()
    assert not made.broken
    assert "bad()" in script_of(notebook("%%time\nbad()"))[0]


def test_a_cell_that_does_not_parse_is_named(tree, check):
    tree(**{"a.ipynb": notebook("import torch", "def (", "bad()")})
    result = check("a.ipynb")
    assert found(result) == [("TD901", "a.ipynb:cell 3:1")]
    assert [one.reason for one in result.not_checked] == ["cell 2 does not parse"]
    assert not result.not_checked[0].asked


def test_markdown_counts_as_a_cell():
    cells = [{"cell_type": "markdown", "source": "# x"}, {"cell_type": "code", "source": "import torch"}]
    assert [cell.number for cell in script_of(json.dumps({"cells": cells}))[1].cells] == [2]


@pytest.mark.parametrize(
    "text", ["[]", '{"cells": 3}', '{"worksheets": []}', "{", '{"cells": [1, {"cell_type": "code"}, null]}x']
)
def test_what_is_no_notebook(text):
    with pytest.raises(UnusableError):
        script_of(text)


def test_odd_cells_hold_nothing():
    cells = [1, {"cell_type": "code"}, {"cell_type": "code", "source": [1, "x = 1\n"]}, {"cell_type": "code", "source": None}]
    text, _ = script_of(json.dumps({"cells": cells}))
    assert text.split() == ["x", "=", "1"]


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("listed", [True, False])
def test_edits_change_the_cell_and_no_other_byte(ascii_only, listed):
    cell = "import torch\n# ä\nbad() ; bad()\nlast()"
    source = cell.splitlines(keepends=True) if listed else cell
    whole = json.dumps({"cells": [{"cell_type": "code", "source": source}], "x": [1.50, "ü"]}, indent=3, ensure_ascii=ascii_only)
    whole = whole.replace("1.5", "1.50")
    text, made = script_of(whole)
    edits = [Edit(i, i + 3, "good") for i in range(len(text)) if text.startswith("bad", i)]
    after = rewritten(made, edits)
    assert after == whole.replace("bad", "good")
    assert rewritten(made, []) == whole


def test_an_edit_may_add_and_remove_lines():
    whole = notebook(["a()\n", "b()\n", "c()"])
    text, made = script_of(whole)
    after = rewritten(made, [Edit(0, 4, ""), Edit(text.index("c()"), text.index("c()"), "x()\n")])
    assert json.loads(after)["cells"][0]["source"] == ["b()\n", "x()\n", "c()"]
    assert after.count("\n") == whole.count("\n")


def test_an_edit_over_two_cells_is_refused():
    text, made = script_of(notebook("a()", "b()"))
    assert rewritten(made, [Edit(0, text.index("b()"), "")]) is None


def test_lines_of_the_file():
    whole = notebook(["a()\n", "b()"], ["c()"])
    _, made = script_of(whole)
    for number, cell, words in ((1, 1, "a()"), (2, 1, "b()"), (1, 2, "c()")):
        assert words in whole.splitlines()[made.line_in_file(number, cell) - 1]
