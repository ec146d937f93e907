import sys
from pathlib import Path

import pytest

from tests.check.conftest import found
from traindoctor.check import pipeline
from traindoctor.check.options import CheckOptions, Rules
from traindoctor.errors import ConfigError


def test_finds_in_scripts_and_configs(tree, check):
    tree(
        **{
            "train.py": "import torch\nbad()\n",
            "conf/config.yaml": "optimizer: adam\nlr: 3\n",
            "other.py": "bad()\n",
            "notes.md": "bad()",
        }
    )
    result = check(".")
    assert found(result) == [("TD902", "conf/config.yaml:2"), ("TD901", "train.py:2")]
    assert result.n_other == 1
    assert not result.not_checked


def test_names_are_as_seen_from_the_working_directory(tree, check):
    tree(**{"pkg/train.py": "import torch\nfrom pkg.helper import f\n", "pkg/helper.py": "import torch\nbad()\n"})
    result = check("pkg/train.py")
    one = result.files[0].findings[0]
    assert one.mistake.location.file == "pkg/train.py"
    assert one.mistake.related[0][0].text == "pkg/helper.py:2"


def test_helpers_are_looked_for_from_the_root_of_their_project(tree, check):
    tree(
        **{
            "a/pyproject.toml": "",
            "a/train.py": "import torch\nfrom helper import f\n",
            "a/helper.py": "bad()\n",
            "b/pyproject.toml": "",
            "b/train.py": "import torch\nfrom helper import f\n",
        }
    )
    assert found(check(".")) == [("TD901", "a/train.py:2")]


def test_a_rule_that_fails_is_named_and_the_others_run(tree, check):
    tree(**{"train.py": "import torch\nexplode()\nbad()\n"})
    result = check("train.py")
    assert found(result) == [("TD904", "train.py:2"), ("TD901", "train.py:3")]
    assert result.problems == ("TD904 failed on train.py: LookupError: no such thing",)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.py", "import torch\ndef (:\n", "does not parse: invalid syntax"),
        ("a.py", "import torch\nprint 'x'\n", "does not parse"),
        ("a.py", b"import torch\n\x00", "is no text"),
        ("a.py", "# torch\nx = 'ä'\n".encode("latin-1"), "is not utf-8 text (byte 13)"),
        ("a.py", b"# coding: klingon\nimport torch\n", "declares an encoding that is not known: klingon"),
        ("a.py", b"# coding: hex\nimport torch\n", "declares an encoding that is not known: hex"),
        ("a.py", b"# coding: unicode_escape\nimport torch\n", "a change would not keep"),
        ("a.py", "import torch\nx = " + "(" * 5000, "does not parse"),
        ("a.py", "import torch\nx = " + "-" * 200_000 + "1\n", "too deeply"),
        ("a.ipynb", '{"cells": "torch"}', "is no notebook of format 4"),
        ("a.ipynb", '{"cells": [torch', "is not JSON"),
        ("a.ipynb", "[" * 100_000 + "torch", "nested too deeply"),
        ("a.yaml", "optimizer: adam\nlr: [1\n", "does not parse"),
        ("missing.py", None, "does not exist"),
        ("noname", "hello", "is no script, notebook or config by its name"),
    ],
)
def test_what_cannot_be_used_is_said(tree, check, name, content, reason):
    tree(**{} if content is None else {name: content})
    (missed,) = check(name).not_checked
    assert missed.asked
    assert missed.file == name
    assert reason in missed.reason
    assert "\n" not in missed.reason


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_what_is_no_config_may_be_in_any_encoding(tree, check, encoding):
    tree(**{"a.yaml": "name: é\nport: 80\n".encode(encoding), "b.yaml": "optimizer: adam # é\nlr: 3\n".encode(encoding)})
    result = check("a.yaml", "b.yaml")
    assert [missed.file for missed in result.not_checked] == ["b.yaml"]
    assert result.n_other == 1


def test_what_lies_broken_in_a_folder_is_named_too(tree, check):
    tree(**{"src/a.py": "import torch\nbad()\n", "src/b.py": "import torch\n(\n"})
    result = check("src")
    assert found(result) == [("TD901", "src/a.py:2")]
    assert [(one.file, one.line, one.asked) for one in result.not_checked] == [("src/b.py", 2, False)]


def test_a_file_that_cannot_be_read(tree, check, monkeypatch):
    root = tree(**{"a.py": "import torch\n"})
    monkeypatch.setattr(type(root), "read_bytes", lambda _self: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    (missed,) = check("a.py").not_checked
    assert missed.reason == "cannot be read: Permission denied"


def test_too_large(tree, check, monkeypatch):
    monkeypatch.setattr("traindoctor.check.sources.MAX_BYTES", 10)
    tree(**{"a.py": "import torch\nbad()\n"})
    assert "too many" in check("a.py").not_checked[0].reason


def test_nothing_of_a_script_is_run(tree, check, tmp_path):
    trap = "import torch\nfrom pathlib import Path\nPath('trace').write_text('x')\nimport trap\nbad()\n"
    tree(
        **{
            "train.py": trap,
            "trap.py": trap,
            "conf.py": "lr = 3\nPath('trace').touch()\n",
            "setup.py": trap,
            "sitecustomize.py": trap,
        }
    )
    before = set(sys.modules)
    assert len(found(check("."))) == 5
    assert not (tmp_path / "trace").exists()
    assert not {"trap", "sitecustomize", "conf"} & (set(sys.modules) - before)


def test_a_long_script(tree, check):
    tree(**{"a.py": "import torch\n" + "x = y + 1\n" * 50_000 + "bad()\n"})
    assert found(check("a.py")) == [("TD901", "a.py:50002")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_byte_order_mark(tree, check, end, bom):
    tree(**{"a.py": bom + f"import torch{end}{end}bad(){end}".encode()})
    assert found(check("a.py")) == [("TD901", "a.py:3")]


def test_columns_are_characters(tree, check):
    tree(**{"a.py": "import torch\nx = 'ä𝄞日'; bad()\n"})
    place = check("a.py").files[0].findings[0].mistake.location
    assert (place.column, place.end_column) == (12, 17)


def test_a_script_without_suffix_says_so_itself(tree, check):
    tree(train="#!/usr/bin/env python3\nimport torch\nbad()\n")
    assert found(check("train")) == [("TD901", "train:3")]


def test_select_and_ignore(tree, check):
    tree(**{"a.py": "import torch\nbad()\nhint()\n"})
    assert len(found(check("a.py"))) == 2
    assert found(check("a.py", select=("TD903",))) == [("TD903", "a.py:3")]
    assert found(check("a.py", ignore=("TD9",))) == []
    assert found(check("a.py", select=("TD903",), extend_select=("TD901",))) == [("TD901", "a.py:2"), ("TD903", "a.py:3")]
    assert found(check("a.py", per_file_ignores=(("*.py", ("TD901",)),))) == [("TD903", "a.py:3")]


def test_the_longest_prefix_decides():
    assert Rules((), (), {}).allow("TD301")
    assert Rules(("TD3",), (), {}).allow("TD301")
    assert not Rules(("TD2",), (), {}).allow("TD301")
    assert not Rules(("TD3",), ("TD301",), {}).allow("TD301")
    assert Rules(("TD301",), ("TD3",), {}).allow("TD301")
    assert not Rules(("TD301",), ("TD301",), {}).allow("TD301")


def test_the_nearest_settings_hold_for_a_file(tree, check):
    tree(
        **{
            "pyproject.toml": '[tool.traindoctor]\nignore = ["TD901"]\nexclude = ["old"]\n',
            "a.py": "import torch\nbad()\n",
            "old/a.py": "import torch\nhint()\n",
            "sub/traindoctor.toml": '[per-file-ignores]\n"x_*.py" = ["TD901"]\n',
            "sub/a.py": "import torch\nbad()\n",
            "sub/x_a.py": "import torch\nbad()\n",
        }
    )
    assert found(check(".")) == [("TD901", "sub/a.py:2")]
    assert len(found(check(".", isolated=True))) == 4


def test_patterns_of_settings_start_at_their_file(tree, check, tmp_path, monkeypatch):
    tree(
        **{
            "conf/traindoctor.toml": 'exclude = ["old/x"]\n[per-file-ignores]\n"sub/a.py" = ["TD9"]\n',
            "conf/sub/a.py": "import torch\nbad()\n",
            "conf/old/x/a.py": "import torch\nbad()\n",
            "conf/b.py": "import torch\nbad()\n",
        }
    )
    assert found(check(".", config=Path("conf/traindoctor.toml"))) == [("TD901", "conf/b.py:2")]
    monkeypatch.chdir(tmp_path / "conf/old")
    result = pipeline.check([Path("x"), Path("../b.py")], CheckOptions(), tmp_path / "conf/old")
    assert found(result) == [("TD901", (tmp_path / "conf/b.py").as_posix() + ":2")]


def test_the_command_line_comes_before_the_settings(tree, check):
    tree(**{"traindoctor.toml": 'ignore = ["TD901"]', "a.py": "import torch\nbad()\n"})
    assert not found(check("a.py"))
    assert found(check("a.py", select=("TD901",))) == [("TD901", "a.py:2")]
    assert not found(check("a.py", select=("TD9",)))


@pytest.mark.parametrize("text", ["[tool.ruff]\n", "tool = {\n", "# traindoctor\nx = [\n"])
def test_a_file_of_settings_that_was_named_must_hold_some(tree, check, text):
    tree(**{"pyproject.toml": text, "a.py": "import torch\nbad()\n"})
    assert found(check("a.py"))
    with pytest.raises(ConfigError, match="holds no settings"):
        check("a.py", config=Path("pyproject.toml"))


def test_a_code_in_the_settings_that_no_rule_has_is_named(tree, check):
    tree(**{"sub/traindoctor.toml": 'ignore = ["TD9", "TD99"]\nper-file-ignores = {"*" = "XX1"}', "sub/a.py": "import torch\n"})
    assert check(".").problems == ("sub/traindoctor.toml: no rule has the code TD99, XX1",)
    assert check(".", config=Path("sub/traindoctor.toml")).problems == check(".").problems


def test_stdin_has_a_name(tree, check):
    tree(**{"helper.py": "bad()\n"})
    result = check(data=b"import torch\nfrom helper import f\n", stdin="sub.py")
    assert found(result) == [("TD901", "sub.py:2")]


def test_the_text_of_stdin_counts_and_not_the_file(tree, check):
    tree(**{"config.yaml": "optimizer: adam\nlr: 1\n"})
    assert found(check(data=b"optimizer: adam\n\nlr: 3\n", stdin="config.yaml")) == [("TD902", "config.yaml:3")]
