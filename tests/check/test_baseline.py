import json
from pathlib import Path

import pytest

from tests.check.conftest import found
from traindoctor.check.baseline import known, without, written
from traindoctor.errors import UnreadableInputError


def names(result, here, path):
    counts = known(path)
    return [len(without(file, counts, here, path.parent).findings) for file in result.files]


def test_known_findings_are_known_wherever_their_line_goes(tree, check, tmp_path):
    tree(**{"a.py": "import torch\nbad(1)\nbad(2)\nbad(2)\n"})
    path = tmp_path / "base.json"
    path.write_text(written(check("a.py").files, tmp_path, tmp_path))
    assert names(check("a.py"), tmp_path, path) == [0]
    tree(**{"a.py": "import torch\n\n\nx = 1\nif x:\n    bad(2)\n    bad(2)\nbad(1)\n"})
    assert names(check("a.py"), tmp_path, path) == [0]
    tree(**{"a.py": "import torch\nbad(2)\nbad(2)\nbad(2)\nbad(3)\n"})
    assert names(check("a.py"), tmp_path, path) == [2]


def test_paths_are_relative_to_the_baseline(tree, check, tmp_path):
    tree(**{"src/a.py": "import torch\nbad(1)\n"})
    path = tmp_path / "src/base.json"
    path.write_text(written(check("src").files, tmp_path, path.parent))
    assert json.loads(path.read_text())["findings"][0]["path"] == "a.py"
    assert names(check("src"), tmp_path, path) == [0]


def test_the_same_findings_make_the_same_file(tree, check, tmp_path):
    tree(**{"a.py": "import torch\nbad(1)\nbad(2)\n", "b.py": "import torch\nbad(1)\n"})
    texts = {written(check(*paths).files, tmp_path, tmp_path) for paths in (("a.py", "b.py"), ("b.py", "a.py"), (".",))}
    assert len(texts) == 1
    assert len(found(check("."))) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"findings": [{}]}',
        '{"findings": 3}',
        "[" * 100_000,
        '{"findings": [{"fingerprint": "a", "count": 1e999}]}',
    ],
)
def test_what_is_no_baseline(tmp_path, text):
    (tmp_path / "base.json").write_text(text)
    with pytest.raises(UnreadableInputError, match="no baseline"):
        known(tmp_path / "base.json")
    with pytest.raises(UnreadableInputError, match="cannot be read"):
        known(Path(tmp_path / "missing.json"))
