import dataclasses
import json
import re
from pathlib import Path
from urllib.parse import unquote

import jsonschema
import numpy as np
import pytest

from tests.report import chromium, sample
from tests.report.test_html import Page, findings_in
from traindoctor.across import across, outcome_of
from traindoctor.cli import main
from traindoctor.errors import TraindoctorError, UnreadableInputError
from traindoctor.report.from_json import read_report
from traindoctor.report.html import render_html, run_pages, write_html
from traindoctor.report.index import file_names, index_schema, render_index
from traindoctor.report.to_json import to_json

FOUR = (sample.healthy_run(), sample.undecided_run(), sample.failed_run(), sample.hostile_run())


def named(name, report=None, path=""):
    report = report or sample.undecided_run()
    return dataclasses.replace(report, run=dataclasses.replace(report.run, name=name, path=path or name))


def many(n):
    """Return `n` runs of four kinds."""
    kinds = (sample.failed_run(), sample.undecided_run(), sample.healthy_run(), sample.healthy_run())
    runs = [named(f"run-{i:03}", kinds[i % 4]) for i in range(n)]
    report = sample.report_of(*runs)
    return dataclasses.replace(report, across=across([outcome_of(run) for run in runs], report.names))


def rows_of(source):
    return re.findall(r'<tr data-verdict="(\w+)"[^>]*><th scope="row">(?:<a href="([^"]*)">)?([^<]*)<', source)


def test_the_worst_run_comes_first_and_counts_are_told():
    made = Page(render_html(sample.report_of(*FOUR)))
    assert "2 of 4 runs failed: 1 undecided, 1 healthy." in made.text
    rows = rows_of(render_html(sample.report_of(*FOUR)))
    assert [verdict for verdict, _, _ in rows] == ["failed", "failed", "undecided", "healthy"]
    assert rows[0][2] == "perceptron-overtrained"
    for words in (
        "Second moment collapse",
        "2,471",
        "0.93",
        "from 1e-8 to 0.1",
        "epoch 400",
        "Log the learning rate and the batch order",
    ):
        assert words in made.text, words


def test_runs_of_one_cause_are_told_together_with_what_sets_them_apart():
    made = Page(render_html(many(40)))
    assert "Across runs, by first cause Compared with 20 sound runs" in made.text
    clusters = [e for e in made.all("button") if "data-cause" in e]
    assert [e["data-cause"] for e in clusters] == ["TD101", "TD201"]
    assert all("hidden" in e for e in clusters)  # dead without script
    assert "10 failed" in made.text


def test_no_run_is_a_page_too():
    assert "No run was found." in Page(render_html(sample.report_of())).text


def test_rows_lead_to_pages_that_are_there_and_back(tmp_path):
    written = write_html(sample.report_of(*FOUR), tmp_path / "my report #1.html")
    assert written.n_pages == 4
    assert written.folder == tmp_path / "my report #1-runs"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my report #1-runs", "my report #1.html"]
    index = written.file.read_text(encoding="utf-8")
    links = [href for _, href, _ in rows_of(index)]
    assert len(set(links)) == 4
    assert all(href.startswith("my%20report%20%231-runs/") for href in links)
    pages = sorted(p.name for p in written.folder.iterdir())
    assert sorted(unquote(href).partition("/")[2] for href in links) == pages
    for name in pages:
        made = Page((written.folder / name).read_text(encoding="utf-8"))
        ways = {a["href"] for a in made.all("a") if not a["href"].startswith("#")}
        assert "../my%20report%20%231.html" in ways
        assert {unquote(way) for way in ways - {"../my%20report%20%231.html"}} <= set(pages)
    assert "secret-user" not in index


def test_the_page_of_a_run_holds_its_findings_alone():
    report = sample.report_of(*FOUR)
    for (_, page), run in zip(run_pages(report, "x.html"), [FOUR[2], FOUR[3], FOUR[1], FOUR[0]], strict=True):
        assert json.loads(findings_in(page)) == json.loads(json.dumps(to_json(sample.report_of(run))))


def test_a_second_report_replaces_the_first(tmp_path):
    file = tmp_path / "r.html"
    write_html(many(8), file)
    write_html(many(4), file)
    assert len(list((tmp_path / "r-runs").iterdir())) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r-runs", "r.html"]


def test_a_folder_of_someone_else_is_not_touched(tmp_path):
    kept = tmp_path / "r-runs" / "metrics.csv"
    kept.parent.mkdir()
    kept.write_text("mine", encoding="utf-8")
    with pytest.raises(UnreadableInputError, match="holds what is no report"):
        write_html(many(4), tmp_path / "r.html")
    assert kept.read_text(encoding="utf-8") == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r-runs"]
    kept.rename(kept.with_name("a.html"))
    with pytest.raises(UnreadableInputError):
        write_html(many(4), tmp_path / "r.html")


def test_an_interruption_leaves_the_old_report(tmp_path):
    file = tmp_path / "r.html"
    write_html(many(4), file)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.html")}

    def stop(words):
        if words.endswith("run-004.html"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_html(many(8), file, progress=stop)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.html")} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r-runs", "r.html"]


def test_too_large_a_page_leaves_nothing_behind(tmp_path):
    with pytest.raises(TraindoctorError, match=r"more than 0\.1 MB"):
        write_html(many(4), tmp_path / "r.html", 100_000)
    assert not list(tmp_path.iterdir())


NAMES = (
    "plain-1.0_b",
    "exp/lr=0.1",
    "../../etc/passwd",
    "a b",
    "a-b",
    "A-B",
    "CON",
    "nul.txt",
    ".hidden",
    "",
    "ø" * 200,
    "x" * 10_000,
    "nul\x00byte",
    "\u202egnp.exe",
    "</script><script>",
    "same",
    "same",
)


def test_file_names_are_safe_unique_and_do_not_depend_on_the_others():
    runs = [named(name, path=f"p{i}") for i, name in enumerate(NAMES)]
    made = dict(zip(range(len(runs)), file_names(runs), strict=True))
    assert made[0] == "plain-1.0_b.html"
    assert re.fullmatch(r"exp-lr=0\.1\.html", made[1])
    for name in made.values():
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,80}\.html", name), name
        assert not re.fullmatch(r"(?i)(con|nul)(\..*)?\.html", name), name
    assert len({name.lower() for name in made.values()}) == len(NAMES)
    assert file_names(runs[::-1]) == [made[i] for i in reversed(made)]
    assert file_names([named("exp/a")]) == ["exp-a.html"]


def test_names_of_one_run_twice_are_still_told_apart():
    twice = [named("same", path="p"), named("same", path="p")]
    assert len(set(file_names(twice))) == 2


def test_hostile_names_stay_text():
    source = render_html(sample.report_of(*(named(name) for name in NAMES), sample.hostile_run()))
    assert source.count("<script") == source.count("</script") == 2
    made = Page(source)
    assert not made.all("img")
    assert "\x00" not in source
    assert "\u202e" not in source
    for _, attributes in made.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src")]
    assert len(source.encode()) < 200_000


def test_the_index_says_what_it_shows_as_json():
    source = render_index(sample.report_of(*FOUR), "r-runs")
    made = json.loads(findings_in(source))
    jsonschema.Draft202012Validator(index_schema()).validate(made)
    assert made["kind"] == "index"
    first = made["runs"][0]
    assert (first["name"], first["verdict"], first["code"], first["onset"]) == ("perceptron-overtrained", "failed", "TD101", 2471)
    assert first["page"] == "r-runs/perceptron-overtrained.html"
    assert [run["page"] for run in json.loads(findings_in(render_html(sample.report_of(*FOUR))))["runs"]] == [None] * 4


def test_a_run_without_a_loss_has_no_drawing():
    run = sample.run_with("odd", sample.series("", "something", np.ones(5)))
    bare = dataclasses.replace(sample.undecided_run(), run=run, findings=(), summary="Nothing was found.")
    source = render_html(sample.report_of(bare, sample.healthy_run()))
    row = re.search(r'<tr data-verdict="undecided".*?</tr>', source, re.S)[0]
    assert "<svg" not in row
    assert "Nothing was found." in row


def test_an_index_of_200_runs_is_small_and_each_has_its_loss():
    source = render_index(many(200), "r-runs")
    assert len(source.encode()) < 1_000_000
    assert source.count('class="sp"><svg') == 200


def test_the_index_is_no_report_to_read_back_and_says_so(tmp_path):
    file = tmp_path / "r.html"
    write_html(many(4), file)
    with pytest.raises(UnreadableInputError, match="is the index of several runs"):
        read_report(file)
    assert read_report(tmp_path / "r-runs" / "run-000.html").runs[0].run.name == "run-000"


def test_the_command_writes_both_and_tells(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / "logs" / name).mkdir(parents=True)
        rows = "".join(f"{i},{2.0 / (i + 1)}\n" for i in range(50))
        (tmp_path / "logs" / name / "metrics.csv").write_text("step,loss\n" + rows, encoding="utf-8")
    assert main(["diagnose", "logs", "--html", "r.html"]) == 0
    assert capsys.readouterr().err == f"wrote r.html and 2 pages in {Path('r-runs')}\n"
    assert sorted(p.name for p in Path("r-runs").iterdir()) == ["one.html", "two.html"]
    assert str(tmp_path) not in Path("r.html").read_text(encoding="utf-8") + Path("r-runs/one.html").read_text(encoding="utf-8")
    assert main(["diagnose", "logs/one", "--html", "one.html", "--include-paths"]) == 0
    assert str(tmp_path) in Path("one.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["diagnose", "logs/one", "--html", "small.html", "--max-size", "0.01"]) == 2
    out, err = capsys.readouterr()
    assert "more than 0.01 MB" in err
    assert "No sign of a failure" in out  # what was found is not lost with the page
    assert not Path("small.html").exists()


# -- in a browser ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("index")
    write_html(many(12), made / "r.html")
    hostile = sample.report_of(*(named(name) for name in NAMES), sample.hostile_run())
    (made / "hostile.html").write_text(render_html(hostile), encoding="utf-8")
    return made


@pytest.fixture
def opened(browser, folder):
    """Return a function that opens a page at a fragment; each is closed at the end of the test."""
    pages = []

    def open_at(fragment="", width=1280, name="r.html", **more):
        pages.append(chromium.opened(browser, (folder / name).as_uri() + fragment, width, **more))
        return pages[-1]

    yield open_at
    for page in pages:
        page.context.close()


def shown(page):
    return page.evaluate("[...document.querySelectorAll('.runs tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].innerText)")


def test_rows_are_filtered_and_the_view_is_in_the_address(opened):
    page = opened()
    assert len(shown(page)) == 12
    page.get_by_role("button", name="Failed 3").click()
    assert shown(page) == ["run-000", "run-004", "run-008"]
    assert page.get_by_role("status").inner_text() == "3 of 12 runs"
    page.get_by_role("searchbox").fill("004")
    assert shown(page) == ["run-004"]
    again = opened(page.url[page.url.index("#") :])
    assert shown(again) == ["run-004"]
    assert again.get_by_role("searchbox").input_value() == "004"
    assert again.get_by_role("button", name="Failed 3").get_attribute("aria-pressed") == "true"
    again.get_by_role("button", name="Clear").click()
    assert len(shown(again)) == 12
    assert again.url.endswith("#")
    again.get_by_role("combobox").select_option("TD201")
    assert shown(again) == ["run-001", "run-005", "run-009"]
    again.get_by_role("searchbox").fill("nothing like it")
    assert again.get_by_text("No run fits.").is_visible()
    assert page.seen["messages"] == again.seen["messages"] == []


def test_a_cluster_shows_its_runs(opened):
    page = opened()
    page.get_by_role("button", name=re.compile("Show these.*Learning rate too high")).click()
    assert shown(page) == ["run-001", "run-005", "run-009"]
    assert "cause=TD201" in page.url


@pytest.mark.parametrize("key", ["name", "verdict", "cause", "sure", "onset", "fix"])
def test_each_column_sorts_both_ways(opened, key):
    page = opened()
    head = page.locator(f"th[data-key={key}]")
    head.get_by_role("button").click()
    first, way = shown(page), head.get_attribute("aria-sort")
    head.get_by_role("button").click()
    second, other = shown(page), head.get_attribute("aria-sort")
    assert {way, other} == {"ascending", "descending"}
    assert sorted(first) == sorted(second)
    assert first != second
    if key in ("cause", "sure", "onset", "fix"):  # what is not known stays at the end: the healthy runs
        assert {first[-1], second[-1]} <= {f"run-{i:03}" for i in range(12) if i % 4 > 1}
    assert page.locator("[aria-sort]").count() == 1
    assert shown(opened(page.url[page.url.index("#") :])) == second


def test_a_fragment_that_is_a_place_or_nonsense_changes_nothing(opened):
    for fragment in ("#runs", "#verdict=nonsense&sort=x&cause=%3Cimg%3E", "#=", "#%"):
        page = opened(fragment)
        assert len(shown(page)) == 12
        assert page.seen["messages"] == []


def test_without_script_the_table_is_there_and_no_dead_control(opened):
    page = opened(java_script_enabled=False)
    assert page.get_by_role("row").count() == 13
    assert page.get_by_role("button").count() == 0
    assert page.get_by_role("searchbox").count() == 0
    page.get_by_role("link", name="run-000").click()
    assert page.get_by_role("heading", level=1).inner_text().startswith("Training failed from step")
    page.get_by_role("link", name="All 12 runs").click()
    assert page.get_by_role("heading", level=1).inner_text().startswith("3 of 12 runs failed")


@pytest.mark.parametrize("name", ["r.html", "hostile.html"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_scrolls_sideways_and_nothing_runs(opened, name, width):
    page = opened(width=width, name=name)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.seen == {"requests": [page.url], "messages": [], "dialogs": []}
