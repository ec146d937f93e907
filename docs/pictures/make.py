"""The pictures of the documentation: the first screen of the report of some fixtures, light, dark and on a phone.

    python docs/pictures/make.py

Needs Chromium, playwright and Pillow (`pip install playwright pillow`); the same report gives the same picture on one machine.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from traindoctor.pipeline import diagnose
from traindoctor.report.html import render_html

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
#: fixture -> name of the picture and height of its first screen.
CASES = {"sick/overtrained-perceptron": ("overtrained-perceptron", 1035)}
#: suffix -> color scheme, width, pixels a point.
FORMS = {"": ("light", 1280, 1), "-dark": ("dark", 1280, 1), "-phone": ("light", 390, 2)}
COLORS = 128


def main():
    """Write every picture."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        sys.exit("no Chromium was found")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found,
            args=[
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        for fixture, (name, height) in CASES.items():
            page_source = render_html(diagnose([ROOT / "fixtures" / fixture]))
            for suffix, (scheme, width, scale) in FORMS.items():
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=scale
                )
                page = context.new_page()
                page.set_content(page_source)
                shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
                context.close()
                file = HERE / f"{name}{suffix}.png"
                shot.quantize(COLORS, dither=Image.Dither.NONE).save(file, optimize=True)
                print(f"{file.relative_to(ROOT)}  {shot.width} x {shot.height}, {file.stat().st_size / 1000:.0f} kB")
        browser.close()


if __name__ == "__main__":
    main()
