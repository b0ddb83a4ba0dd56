"""Figures and sliders in a live JupyterLab: with mouse and keyboard, and computed anew."""

import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT, write_notebook
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(ROOT / "tools"))
import browser as chromium

FIRST = """import matplotlib.pyplot as plt
import numpy as np
from learnit_utils.book import figures, slider
figures.use_style()
figures.show(plt.figure(figsize=(2, 1)), "a figure", "a caption")
slider.frame_slider(
    [np.full((8, 8, 3), v) for v in (0, 0.5, 1)], ["a", "b", "c"], name="n", alt="x", width=60
)"""
SECOND = """slider.explore(
    lambda v: np.full((8, 8), v / 10), "omega0", [1, 5, 10], alt="a picture", width=60
)"""


@pytest.fixture
def lab(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    write_notebook(tmp_path / "x.ipynb", "seed: int = 0  # PRNG seed\n", FIRST, SECOND)
    command = [Path(sys.executable).with_name("jupyter"), "lab", tmp_path, "--no-browser"]
    command += ["--allow-root", "--port", str(port), "--IdentityProvider.token=t"]
    with (tmp_path / "lab.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/api/status?token=t", timeout=2).close()
                break
            except OSError:
                time.sleep(0.5)
        yield f"{address}/lab/tree/x.ipynb?token=t"
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.slow
def test_sliders_work_in_jupyterlab(lab):
    with sync_playwright() as p:
        chrome = p.chromium.launch(executable_path=chromium.find(), args=["--no-sandbox"])
        page = chrome.new_page(viewport=dict(width=1300, height=1000))
        page.goto(lab)
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=90_000)
        page.get_by_text("Python 3 (ipykernel)", exact=False).first.wait_for(timeout=60_000)
        page.locator(".jp-CodeCell").first.locator(".jp-InputArea-editor").click()
        for _ in range(3):
            page.keyboard.press("Shift+Enter")
            page.wait_for_timeout(500)
        slider = page.locator(".learnit-slider")
        slider.wait_for(timeout=90_000)
        handle, shown = slider.locator("input[type=range]"), slider.locator("output")
        handle.scroll_into_view_if_needed()
        handle.focus()
        page.keyboard.press("ArrowRight")
        assert shown.inner_text() == "b"
        box = handle.bounding_box()
        page.mouse.click(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
        assert shown.inner_text() == "c"
        assert page.locator("img.learnit-light:visible").count() == 1
        assert page.locator("img.learnit-dark:visible").count() == 0
        live = page.locator(".jupyter-widgets img")
        live.wait_for(timeout=60_000)
        before = live.get_attribute("src")
        page.locator(".jupyter-widgets .noUi-handle, .jupyter-widgets [role=slider]").first.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function(
            "before => document.querySelector('.jupyter-widgets img').src !== before",
            arg=before,
            timeout=20_000,
        )
        assert re.match(r"blob:|data:", before)
        chrome.close()
