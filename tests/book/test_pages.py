"""The HTML book in a real browser with the network blocked: every page, light and dark."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT, check_report
from playwright.sync_api import sync_playwright

from learnit_utils.book import runner
from learnit_utils.book.cli import main

sys.path.insert(0, str(ROOT / "tools"))
import browser as chromium

pytestmark = pytest.mark.slow
HTML = ROOT / "_build" / "smoke" / "html"
COLAB = ROOT / ".venv-colab"
CONSTRAINTS = ROOT / "tests" / "constraints-colab.txt"
PINNED = dict(line.split("==") for line in CONSTRAINTS.read_text().split() if "==" in line)
CHAPTERS = [f"notebooks/{name}.html" for name in runner.chapters(ROOT)]
PAGES = [  # chapters first: what is asked of every page and of chapters is asked of one visit
    *CHAPTERS,
    "book/intro.html",
    *(f"book/{name}.html" for name in ("notation", "architecture", "api", "scoreboard")),
    *(f"book/{name}.html" for name in ("performance", "data")),
    "book/bibliography.html",
    "search.html",
    "genindex.html",
]
# axe findings inside the theme's own furniture, which this book does not write
THEME = {"label-content-name-mismatch"}


@pytest.fixture(scope="module")
def colab_kernel(tmp_path_factory):
    """A kernel with Colab's versions of everything that matters, in an environment of its own."""
    stamp = COLAB / "ready"
    python = shutil.which("python3.13") or sys.executable
    if subprocess.run([python, "-c", ""], capture_output=True).returncode:
        python = sys.executable
    if not stamp.exists() or stamp.read_text() != CONSTRAINTS.read_text():
        pip = [COLAB / "bin/python", "-m", "pip", "install", "--quiet", "--progress-bar", "off"]
        steps = [
            [python, "-m", "venv", "--clear", COLAB],
            [*pip, "-c", CONSTRAINTS, "ipykernel", "setuptools", ROOT],
        ]
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        stamp.write_text(CONSTRAINTS.read_text())
    spec = tmp_path_factory.mktemp("jupyter") / "kernels" / "colab"
    spec.mkdir(parents=True)
    argv = [str(COLAB / "bin/python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    words = dict(argv=argv, display_name="Colab's versions", language="python")
    words["env"] = dict(PYTHONPATH=str(ROOT))  # this checkout, not the installed copy
    (spec / "kernel.json").write_text(json.dumps(words))
    return spec.parent.parent


@pytest.fixture(scope="module")
def smoke(colab_kernel):
    """Every chapter in the smoke profile, with Colab's versions, every use of a key checked."""
    out = ROOT / "_build" / "smoke"
    shutil.rmtree(out / "training", ignore_errors=True)  # what chapters learn is learned again
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DEBUG_KEY_REUSE", "1")
        patch.setenv("JUPYTER_PATH", str(colab_kernel))
        words = ["run", "all", "--profile", "smoke", "--kernel", "colab", "--out", str(out)]
        assert main([*words, "--cached"]) == 0
    return out


@pytest.mark.parametrize("name", list(runner.chapters(ROOT)))
def test_a_chapter_in_the_smoke_profile_under_colabs_versions(smoke, name):
    provenance = check_report(smoke, name)["provenance"]
    assert provenance["jax"] == PINNED["jax"]
    assert provenance["numpy"] == PINNED["numpy"]
    cells = json.loads((smoke / f"{name}.ipynb").read_text("utf8"))["cells"]
    results = [
        o for c in cells for o in c.get("outputs", ()) if o["output_type"] == "execute_result"
    ]
    assert [o["data"] for o in results if set(o["data"]) == {"text/plain"}] == []  # no stray values


@pytest.fixture(scope="module")
def html(smoke):
    """The book built from the smoke runs, every warning an error."""
    command = [sys.executable, ROOT / "book/build.py", "--executed", smoke, "--html", HTML]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return HTML


@pytest.fixture(scope="module")
def address(html):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(html)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def chrome():
    with sync_playwright() as p:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        launched = p.chromium.launch(executable_path=chromium.find(), args=flags)
        yield launched
        launched.close()


class Visit:
    """A page opened with everything outside its origin blocked and noted."""

    def __init__(self, chrome, origin, page, mode="light"):
        size = dict(width=1280, height=900)
        self.context = chrome.new_context(viewport=size, color_scheme=mode)
        self.context.set_default_timeout(180_000)  # milliseconds; a busy machine draws slowly
        self.name = page
        self.page = self.context.new_page()
        self.outside, self.errors = [], []
        inside = (origin, "data:", "blob:")

        def gate(route):
            if route.request.url.startswith(inside):
                return route.continue_()
            self.outside.append(route.request.url)
            return route.abort()

        self.page.route("**/*", gate)
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.on(
            "response",
            lambda r: self.errors.append(f"{r.status} {r.url}") if r.status > 399 else None,
        )
        script = f"localStorage.setItem('mode', '{mode}'); localStorage.setItem('theme', '{mode}')"
        self.page.add_init_script(script)
        self.page.goto(origin + page)
        self.page.wait_for_load_state("networkidle")

    def scrolled(self):
        """Scroll to the end, so that lazy parts load."""
        self.page.evaluate(
            "async () => { for (let y = 0; y < document.body.scrollHeight; y += 900) {"
            " window.scrollTo(0, y); await new Promise(r => setTimeout(r, 15)); } }"
        )
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()


@pytest.fixture(scope="module")
def light(address, chrome, request):
    with Visit(chrome, address, request.param) as visit:
        yield visit


@pytest.fixture(scope="module")
def dark(address, chrome, request):
    with Visit(chrome, address, request.param, "dark") as visit:
        yield visit


def on(mode, pages):
    """Ask a test of pages in a mode; tests of one page follow each other and share the visit."""
    return pytest.mark.parametrize(mode, pages, indirect=True, scope="module")


def check_page(visit, mode):
    """No console error, no outside request, alt text everywhere, mathematics set, axe content."""
    visit.scrolled()
    assert visit.errors == []
    assert visit.outside == []
    assert visit.page.evaluate("document.documentElement.dataset.theme") == mode
    bare = "[...document.images].filter(i => !i.alt || !i.complete || !i.naturalWidth)"
    assert visit.page.evaluate(f"{bare}.map(i => i.outerHTML.slice(0, 120))") == []
    unset = "[...document.querySelectorAll('.math')].filter(m => !m.querySelector('mjx-container'))"
    assert visit.page.evaluate(f"{unset}.length") == 0
    assert visit.page.evaluate("document.querySelectorAll('mjx-merror').length") == 0
    found = Axe().run(visit.page, options={"resultTypes": ["violations"]}).response["violations"]
    serious = [
        (v["id"], [n["html"][:150] for n in v["nodes"]][:3])
        for v in found
        if v["impact"] in ("serious", "critical") and v["id"] not in THEME
    ]
    assert serious == []


@on("light", PAGES)
def test_a_page_is_quiet_local_and_described(light):
    check_page(light, "light")


@on("dark", PAGES)
def test_a_dark_page_is_quiet_local_and_described(dark):
    check_page(dark, "dark")


@on("light", PAGES)
def test_a_page_fits_a_phone(light):
    light.page.set_viewport_size(dict(width=390, height=844))
    try:
        wide = light.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390
        unreachable = "[...document.querySelectorAll('.bd-article table')].filter(t => "
        unreachable += "t.scrollWidth > t.clientWidth && t.tabIndex < 0)"
        light.page.wait_for_function(f"{unreachable}.length === 0")  # the theme looks now and then
    finally:
        light.page.set_viewport_size(dict(width=1280, height=900))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_from_a_file(html, chrome, page):
    with Visit(chrome, html.as_uri() + "/", page) as visit:
        assert visit.outside == []
        assert [e for e in visit.errors if "search.html" not in page] == []
        if page.startswith("notebooks/"):
            assert visit.page.locator("mjx-container").count() > 5


def check_figures(visit, mode):
    shown = {m: visit.page.locator(f"img.learnit-{m}:visible").count() for m in ("light", "dark")}
    figures = visit.page.locator("figure.learnit-figure").count()
    assert figures > 3
    assert shown == {mode: figures, "light" if mode == "dark" else "dark": 0}
    captions = visit.page.locator("figure.learnit-figure figcaption:visible").count()
    assert captions == figures


@on("light", CHAPTERS)
def test_a_chapter_shows_one_version_of_every_figure(light):
    check_figures(light, "light")


@on("dark", CHAPTERS)
def test_a_dark_chapter_shows_one_version_of_every_figure(dark):
    check_figures(dark, "dark")


MOVED = """range => new Promise(moved =>
    new MutationObserver(() => moved(range.value)).observe(range, {attributes: true}))"""


@on("light", CHAPTERS)
def test_sliders_move_with_keyboard_and_mouse(light):
    light.errors.clear()  # of axe, which looks for style sheets
    sliders = light.page.locator(".learnit-slider")
    assert sliders.count() >= 1
    for slider in sliders.all():
        image, handle = slider.locator("img"), slider.locator("input[type=range]")
        handle.focus()
        light.page.keyboard.press("Home")
        first = image.get_attribute("src"), slider.locator("output").inner_text()
        light.page.keyboard.press("ArrowRight")
        second = image.get_attribute("src"), slider.locator("output").inner_text()
        assert first[0] != second[0]
        assert first[1] != second[1]
        assert handle.get_attribute("aria-valuetext") == second[1]
        assert second[1] in image.get_attribute("alt")
        box = handle.bounding_box()
        light.page.mouse.click(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
        last = handle.get_attribute("max")
        assert handle.evaluate("r => r.value") == last
        slider.locator("button").click()
        assert slider.locator("button").inner_text() == "Pause"
        assert handle.evaluate(MOVED) == "0"  # it has moved on from the last frame
        slider.locator("button").click()
        assert slider.locator("button").inner_text() == "Play"
    assert light.errors == []


def test_search_finds_siren(address, chrome):
    with Visit(chrome, address, "search.html?q=SIREN") as visit:
        visit.page.wait_for_selector("ul.search li a")
        links = visit.page.locator("ul.search li a").evaluate_all("a => a.map(e => e.href)")
        assert any("01_siren" in link for link in links)


@on("light", CHAPTERS)
def test_launch_and_download_point_to_the_clean_notebook(html, light):
    name = Path(light.name).stem
    links = light.page.locator("a").evaluate_all("a => a.map(e => e.href)")
    assert any(
        "colab.research.google.com/github/" in a and a.endswith(f"/notebooks/{name}.ipynb")
        for a in links
    )
    source = html / "_sources" / "notebooks" / f"{name}.ipynb"
    assert any(a.endswith(f"_sources/notebooks/{name}.ipynb") for a in links)
    assert json.loads(source.read_text()) == json.loads(
        (ROOT / f"notebooks/{name}.ipynb").read_text()
    )


def test_all_markdown_was_read(html):
    """No fence or role of MyST is left in the text of a page."""
    from bs4 import BeautifulSoup

    for page in PAGES:
        article = BeautifulSoup((html / page).read_text("utf8"), "html.parser").article
        for code in article.select("pre, code, script, .math") if article else ():
            code.decompose()
        left = re.findall(r"`{3,}|~{3,}|:{3,}|\{[a-z:]+\}|<!-- ", article.text if article else "")
        assert not left, (page, left)


def test_internal_links_lead_somewhere(html):
    """Every relative link and anchor of every page exists."""
    from urllib.parse import unquote, urldefrag

    from bs4 import BeautifulSoup

    soups = {p: BeautifulSoup(p.read_text("utf8"), "html.parser") for p in html.rglob("*.html")}
    anchors = {p: {e["id"] for e in s.find_all(id=True)} for p, s in soups.items()}
    broken = []
    for path, soup in soups.items():
        for a in soup.find_all("a", href=True):
            target, anchor = urldefrag(a["href"])
            if ":" in target.split("/")[0] or target.startswith("//"):
                continue
            there = (path.parent / unquote(target)).resolve() if target else path
            if there.suffix == ".html" and there in anchors:
                if anchor and unquote(anchor) not in anchors[there]:
                    broken.append((path.name, a["href"]))
            elif not there.exists():
                broken.append((path.name, a["href"]))
    assert broken == []


def test_the_generated_pages_say_what_the_runs_said(html):
    scoreboard = (html / "book/scoreboard.html").read_text("utf8")
    for path in (ROOT / "_build/smoke/results").glob("*.json"):
        report = json.loads(path.read_text("utf8"))
        for claim in report["claims"]:
            assert claim["statement"].replace("'", "’") in scoreboard.replace("&#39;", "’")
        assert scoreboard.count(f">{report['chapter']}<") >= len(report["results"])


def test_the_answer_comes_first(html):
    """In a page the teaser, a figure or a slider, stands above all code that is not folded."""
    from bs4 import BeautifulSoup

    for page in CHAPTERS:
        soup = BeautifulSoup((html / page).read_text("utf8"), "html.parser")
        shown, code = "figure.learnit-figure, .learnit-slider", "div.cell_input"
        marks = soup.select_one(".bd-article").select(f"{shown}, {code}")
        first = next(m for m in marks if not m.find_parent("details"))
        assert first in soup.select(shown), page


def test_data_page_credits_every_photograph(html):
    data = (html / "book/data.html").read_text("utf8")
    assert data.count("commons.wikimedia.org") >= 190


# --- what goes wrong in a build -------------------------------------------------------------------
def test_a_build_with_a_warning_leaves_the_pages_alone(html, tmp_path):
    """A book with a broken reference is not built, and what was there stays as it was."""
    copy = tmp_path / "clone"
    keep = shutil.ignore_patterns(".git", ".venv*", "_build", "runs", "*.egg-info")
    shutil.copytree(ROOT, copy, ignore=keep)
    target = tmp_path / "html"
    target.mkdir()
    (target / "index.html").write_text("the earlier book")
    with (copy / "book/notation.md").open("a") as f:
        f.write("\n\nSee {doc}`nowhere` and [here](no-such-page.md).\n")
    command = [sys.executable, copy / "book/build.py", "--html", target]
    command += ["--executed", ROOT / "_build/smoke"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    assert done.returncode != 0
    assert "nowhere" in done.stdout
    assert "the book was not built" in done.stdout
    assert [p.name for p in target.iterdir()] == ["index.html"]
    assert (target / "index.html").read_text() == "the earlier book"


def test_vendored_widgets_work_without_a_network(chrome, html, tmp_path):
    """A page with a widget state, loaded with the book's own copy of the widget manager."""
    import ipywidgets
    from ipywidgets.embed import dependency_state, embed_snippet

    a = ipywidgets.IntSlider(value=3, min=0, max=10)
    b = ipywidgets.IntProgress(value=3, min=0, max=10)
    link = ipywidgets.jslink((a, "value"), (b, "value"))
    box = ipywidgets.VBox([a, b])
    state = dependency_state([box, link])
    snippet = embed_snippet([box], state=state, requirejs=False, embed_url="none.js")
    body = snippet[snippet.index("<script type") :] if "<script type" in snippet else snippet
    vendor = html / "_static/vendor/widgets"
    head = "".join(
        f'<script src="{(vendor / f).as_uri()}"></script>'
        for f in ("require.js", "paths.js", "embed-amd.js")
    )
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><html lang=en><body>{head}{body}</body></html>")
    with Visit(chrome, "file://", str(page)) as visit:
        visit.page.wait_for_selector(".widget-slider", timeout=10_000)
        assert visit.page.locator(".progress-bar").count() == 1
        assert [u for u in visit.outside if "none.js" not in u] == []
