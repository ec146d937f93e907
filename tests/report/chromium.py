"""Chromium, driven by Playwright: the system's own, and a page that keeps what it asked for and complained of."""

from __future__ import annotations

import shutil
import time

import pytest

CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the page was not opened in a browser")


def opened(browser, place, width=1280, init="", **more):
    """Return the page of a file or a URL; `page.seen`: its requests, messages and dialogs. `init`: a script to run before all."""
    context = browser.new_context(viewport={"width": width, "height": 800}, **more)
    page = context.new_page()
    page.seen = {"requests": [], "messages": [], "dialogs": []}
    page.on("request", lambda r: page.seen["requests"].append(r.url))
    page.on("console", lambda m: page.seen["messages"].append(m.text))
    page.on("pageerror", lambda e: page.seen["messages"].append(str(e)))
    page.on("dialog", lambda d: (page.seen["dialogs"].append(d.message), d.dismiss()))
    page.add_init_script("document.addEventListener('securitypolicyviolation', e => console.error('CSP ' + e.violatedDirective))")
    if init:
        page.add_init_script(init)
    page.goto(place if isinstance(place, str) else place.as_uri())
    return page


def overflow(page, width, patience=3.0):
    """Return by how many pixels a page is wider than a window of this width, once its figures have taken the new width."""
    page.set_viewport_size({"width": width, "height": 800})
    until = time.monotonic() + patience
    while (over := page.evaluate("document.documentElement.scrollWidth") - width) > 0 and time.monotonic() < until:
        page.wait_for_timeout(50)
    return over
