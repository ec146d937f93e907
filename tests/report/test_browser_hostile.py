"""Names that mean harm, from files on disk through `traindoctor diagnose` to every form and a browser: text, and nothing else.

Folders, tags, keys and values of settings, and files carry them; what no file system takes comes in reports that are built.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt

from tests.report import sample
from tests.report.chromium import needs_chromium, opened, overflow
from traindoctor.cli import main
from traindoctor.model import Fix, Setting
from traindoctor.report.forms import rendered
from traindoctor.report.from_json import read_report
from traindoctor.report.html import write_html

#: What a name may hold that a page, a terminal or a shell could take for more than a name.
NAMES = {
    "handler": '"><img src=x onerror=alert(1)>',
    "closing": "</script></title></style></svg><script>alert(1)</script>",
    "template": "{{7*7}}{% raw %}${7*7}",
    "bidi": "\u202egnp.exe\u2066\u200f",
    "terminal": "\x1b[31m\x1b]0;title\x07\x9b2J",
    "formula": "=cmd|' /C calc'!A1",
    "markdown": "[a](javascript:alert(1)) ![b](x) | `c` @d #1",
    "long": "W" * 10_000,
    "wide": "\ufdfd\U00012027" * 500,
    "zalgo": "e" + "\u0301\u0316" * 400,
}
#: What no CSV, YAML or file system of ours carries.
UNCARRIED = {"nul": "a\x00b\x01\x0c\r\n\x85\u2028c", "surrogate": "lone \ud800 and \udfff"}
BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def file_name(name: str) -> str:
    """Return the part of a name that a file may have."""
    return name.replace("/", "∕").encode()[:120].decode(errors="ignore")


def write_run(folder: Path, name: str) -> None:
    """Write a run whose tags, settings and files carry a name, and whose loss fails."""
    folder.mkdir(parents=True)
    step = np.arange(400)
    loss = np.where(step < 200, 2.0 * np.exp(-step / 40), 0.02 + 3 * (step - 200) / 200)
    loss[350:] = np.nan
    quoted = '"' + name.replace('"', '""') + '"'
    rows = "".join(f"{i},{value:.6g},0.1,{i % 7}\n" for i, value in zip(step, loss, strict=True))
    (folder / f"metrics {file_name(name)}.csv").write_text(f"step,loss,lr,{quoted}\n{rows}", encoding="utf-8")
    config = {"optimizer": {"name": "adam", "lr": 0.1, "eps": name}, name: name, "note": {name: [name, name]}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    (folder / f"{file_name(name)}.csv").write_text("step,other\n1,2\n", encoding="utf-8")


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "logs"
    for name in NAMES.values():
        write_run(folder / file_name(name), name)
    return folder


@pytest.fixture(scope="module")
def from_disk(logs) -> list[Path]:
    """The index of all runs and their pages, and the page of one run alone."""
    index, alone = logs.parent / "many.html", logs.parent / "one.html"
    main(["diagnose", str(logs), "--html", str(index), "--format", "json", "--output", str(logs.parent / "many.json"), "-q"])
    main(
        [
            "diagnose",
            str(logs / file_name(NAMES["handler"])),
            "--html",
            str(alone),
            "--output",
            str(logs.parent / "one.txt"),
            "-q",
        ]
    )
    pages = sorted((logs.parent / "many-runs").iterdir())
    assert len(pages) == len(NAMES)
    return [index, alone, *pages]


def carrying(name: str):
    """Return a report in which every string that comes from without is a name."""
    report = sample.failed_run()
    run, first = report.run, report.findings[0]
    series = tuple(replace(one, tag=f"{name}{i}", source=f"{name}.csv") for i, one in enumerate(run.series))
    run = replace(run, name=name, series=series, primary={"loss": series[0]}, settings={name: Setting(name, name)}, files=(name,))
    fix = Fix(name, {name: name}, f"--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n-{name}\n+{name}\n", note=name)
    finding = replace(first, title=f"{name}: {name}", message=name, fixes=(fix, *first.fixes), refutation=name)
    return replace(report, run=run, findings=(finding, *report.findings[1:]), summary=finding.title, gaps=(name,))


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("built")
    names = [NAMES[key] for key in ("closing", "handler", "bidi", "long")]
    write_html(sample.report_of(*map(carrying, (*names, *UNCARRIED.values()))), folder / "many.html")
    write_html(sample.report_of(carrying(UNCARRIED["nul"])), folder / "one.html")
    return [folder / "many.html", folder / "one.html", *sorted((folder / "many-runs").iterdir())]


@needs_chromium
@pytest.mark.parametrize("made", ["from_disk", "built"])
def test_names_are_shown_as_text_and_nothing_runs(browser, request, made):
    for path in request.getfixturevalue(made):
        page = opened(browser, path)
        page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true })")
        if page.locator("[data-figure]").count():
            page.locator(".layer").first.wait_for()
            page.locator(".layer").first.hover()
        for width in (1280, 360):
            assert overflow(page, width) == 0, path.name
        assert page.locator("img, iframe, object, embed, form, base, [onerror]").count() == 0, path.name
        assert set(page.evaluate("[...document.querySelectorAll('a')].map(a => a.protocol)")) <= {"file:"}, path.name
        words = page.locator("body").inner_text()
        for patch in page.locator("pre").all_inner_texts():  # a patch holds the bytes of a file, or it would not apply
            words = words.replace(patch, "")
        assert not BIDI.search(words), path.name
        assert not CONTROL.search(words.replace("\n", "").replace("\t", "")), path.name
        assert page.seen == {"requests": [path.as_uri()], "messages": [], "dialogs": []}, path.name
        page.context.close()


@needs_chromium
def test_a_name_is_shown_letter_by_letter(browser, from_disk):
    page = opened(browser, from_disk[0])
    words = page.locator(".runs tbody").inner_text()
    for name in ("handler", "template", "markdown", "formula"):
        assert file_name(NAMES[name]) in words
    assert "gnp.exe" in words
    page.get_by_role("link", name=NAMES["handler"]).click()
    assert page.get_by_text(NAMES["handler"], exact=True).first.is_visible()
    page.context.close()


@pytest.fixture(scope="module")
def reports(logs, from_disk):
    """The report of the runs on disk as it was read back, and one that carries what no disk does."""
    assert from_disk
    return {
        "disk": read_report(logs.parent / "many.json"),
        "built": sample.report_of(*map(carrying, (NAMES | UNCARRIED).values())),
    }


@pytest.mark.parametrize("which", ["disk", "built"])
@pytest.mark.parametrize("form", ["text", "json", "jsonl", "markdown", "sarif", "junit", "github"])
def test_every_form_holds_names_as_text(reports, which, form):
    made = rendered(reports[which], form)
    assert made.encode()  # no lone surrogate is left
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", made)
    if form in ("json", "sarif"):
        json.loads(made)
    elif form == "jsonl":
        assert all(isinstance(json.loads(line), dict) for line in made.splitlines())
    elif form == "junit":
        ElementTree.fromstring(made)
    else:
        assert not BIDI.search(made)
        assert not CONTROL.search(made.replace("\n", ""))
    if form == "github":
        assert not re.search(r"^::(?!error |warning |notice )", made, re.M)
    if form == "markdown":
        blocks = MarkdownIt("gfm-like", {"linkify": False}).parse(made)
        tokens = [token for block in blocks for token in (block, *(block.children or ()))]
        html = "".join(token.content for token in tokens if token.type in ("html_block", "html_inline"))
        assert set(re.findall("<[^>]*>", html)) <= {"<details>", "</details>", "<summary>", "</summary>", "<sub>", "</sub>"}
        assert not [token for token in tokens if token.type == "image"]
        assert not [token for token in tokens if token.type == "link_open" and not token.attrs["href"].startswith("https://")]
