import io
import tokenize

import pytest

from traindoctor.check.sources import Source, UnusableError, decoded, trains
from traindoctor.configs.words import is_program


@pytest.mark.parametrize(
    "data",
    [
        b"x = 1\n",
        b"# coding: latin-1\nx = '\xe4'\n",
        b"#!/usr/bin/python\n# -*- coding: latin-1 -*-\nx = '\xe4'\n",
        b"\n# vim: set fileencoding=cp1252 :\nx = '\xe4'\n",
        b"x = 1\n# coding: latin-1\n",
        b"\n\n# coding: latin-1\n",
        b"\xef\xbb\xbf# coding: utf-8\nx = 1\n",
        b"'coding: latin-1'\n",
        b"",
    ],
)
def test_the_encoding_is_the_one_that_python_sees(data):
    source = decoded("a.py", "script", data)
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    assert source.text == data.decode(encoding)
    assert source.encoded(source.text) == data


def test_a_config_is_utf_8_whatever_its_comments_say():
    with pytest.raises(UnusableError, match="not utf-8 text"):
        decoded("a.yaml", "config", b"# coding: latin-1\nx: \xe4\n")


def test_lines():
    source = Source("a", "config", "a\r\nb\rc\n")
    assert [source.line(n) for n in range(6)] == ["", "a", "b", "c", "", ""]


@pytest.mark.parametrize("text", ["import torch", "from keras import layers", "import lightning as L", "import jax"])
def test_words_of_training(text):
    assert trains(text.encode())
    assert not trains(b"import os")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr = 3\n", False),
        ("class A:\n", True),
        ("def f():\n", True),
        ("def get_config():\n", False),
        ("import argparse\n", True),
    ],
)
def test_programs(text, expected):
    assert is_program(text) == expected
