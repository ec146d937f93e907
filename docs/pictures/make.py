"""The pictures of the documentation: reports of the classic failures, an index of many runs, the card of a notebook.

    python docs/pictures/make.py                   # those that the documentation shows, beside this file
    python docs/pictures/make.py --out DIR         # of every case: first screen and whole page, light, dark, and on a phone
    python docs/pictures/make.py --out DIR ravine  # of those named

The logs are fixtures, or are trained by the demos of the same name. Needs Chromium, playwright and Pillow; the same reports give
the same pictures on one machine.
"""

import argparse
import contextlib
import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from traindoctor.cli import main as traindoctor
from traindoctor.pipeline import diagnose
from traindoctor.report.notebook import card

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
#: name -> what is diagnosed: fixtures, or the demo of that name.
CASES = {
    "overtrained-perceptron": ("fixtures/sick/overtrained-perceptron",),
    "saddle": "saddle",
    "saddle-beta2": ("fixtures/sick/saddle-beta2-one-keras",),
    "ravine": "ravine",
    "missing-zero-grad": ("fixtures/sick/line-no-zero-grad-adam",),
    "no-warmup": "no-warmup",
    "lr-too-high": ("fixtures/sick/four-tasks-lr-too-high-blow-up",),
    "healthy": ("fixtures/healthy/digits-sgd-cosine",),
    "index": ("fixtures/sick", "fixtures/healthy"),
}
#: suffix -> color scheme, width, pixels a point.
FORMS = {"": ("light", 1280, 1), "-dark": ("dark", 1280, 1), "-phone": ("light", 390, 2), "-phone-dark": ("dark", 390, 2)}
#: name -> the forms that the documentation shows, and the height of their first screen.
SHOWN = {"overtrained-perceptron": (("", "-dark", "-phone"), 1172), "index": (("",), 940)}
HEIGHT = 800
COLORS = 128
#: The card of a notebook: the look of a notebook around it, its width and height.
CELL = "<style>body { margin: 24px; color: #1c1b19; background: #fff; font: 14px/1.5 Helvetica, Arial, sans-serif }</style>"
CARD_SIZE = (800, 690)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


def main():
    """Write the pictures that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join((*CASES, 'notebook'))}; all without")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write every picture of a case there")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in (*CASES, "notebook")]:
        parser.error(f"no picture is called {', '.join(unknown)}")
    names = given.names or [*(CASES if given.out else SHOWN), "notebook"]
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        sys.exit("no Chromium was found")
    folder = given.out or HERE
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        for name in names:
            if name == "notebook":
                page = Path(place) / "notebook.html"
                page.write_text(CELL + card(diagnose([ROOT / CASES["overtrained-perceptron"][0]])), encoding="utf-8")
                shoot(browser, page, folder / "notebook.png", ("light", CARD_SIZE[0], 1), CARD_SIZE[1])
                continue
            page = written(name, Path(place))
            forms, height = (FORMS, HEIGHT) if given.out else SHOWN.get(name, (("",), HEIGHT))
            for form in forms:
                shoot(browser, page, folder / f"{name}{form}.png", FORMS[form], height)
                if given.out:
                    shoot(browser, page, folder / f"{name}{form}-whole.png", FORMS[form], height, whole=True)
        browser.close()


def written(name, place):
    """Return the page of a case, written by the command."""
    page, case = place / f"{name}.html", CASES[name]
    if isinstance(case, str):
        command = ["demo", case, "--html", str(page), "--keep", str(place / name)]
    else:
        command = ["diagnose", *(str(ROOT / path) for path in case), "--html", str(page), "--quiet"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = traindoctor(command)
    if code not in (0, 1):
        sys.exit(f"traindoctor {' '.join(command)} ended with {code}")
    return page


def shoot(browser, page_file, file, look, height, *, whole=False):
    """Write the first screen of a page as a picture, or all of it."""
    scheme, width, scale = look
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=scale)
    page = context.new_page()
    page.goto(page_file.as_uri())
    if page.locator("[data-figure]").count():
        page.locator(".layer").first.wait_for(timeout=20_000)
    shot = Image.open(io.BytesIO(page.screenshot(full_page=whole))).convert("RGB")
    context.close()
    shot.quantize(COLORS, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file.relative_to(ROOT) if file.is_relative_to(ROOT) else file}  ", end="")
    print(f"{shot.width} x {shot.height}, {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
