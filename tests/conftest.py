"""Strict JAX everywhere: no implicit rank promotion, no key used twice."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("patient", deadline=None)  # machines may be busy
settings.load_profile("patient")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

ROOT = Path(__file__).resolve().parent.parent


# The tests of a file stay in one process when pytest runs several. The longest files go first, as
# they decide when all are done.
LONGEST = ("test_pages.py", "test_keys.py", "test_own_place.py", "test_runner.py")


def pytest_collection_modifyitems(items):
    def place(item):
        return LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture(autouse=True)
def no_figures_are_left():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def small_book(tmp_path_factory):
    """A book of one tiny chapter with every kind of parameter, and one that fails."""
    root = tmp_path_factory.mktemp("book")
    (root / "notebooks/profiles").mkdir(parents=True)
    (root / "book").mkdir()
    (root / "book/_toc.yml").write_text("root: book/intro\n")
    parameters = (
        "seed: int = 0  # PRNG seed, in [0, 100]\n"
        "rate: float = 0.5  # step size, in (0, 1]\n"
        'method: str = "maml"  # algorithm, one of maml, fomaml, reptile\n'
        "widths: list[int] = [8, 16]  # widths, each in [1, 64]\n"
        "noise: list[float] = [0.1]  # noise levels, each in [0, 1)\n"
        "fast: bool = False  # cut short\n"
        'label: str = "run"  # a name\n'
    )
    body = (
        "from learnit_utils.book import report\n"
        'report.open("01_tiny")\n'
        'report.record("seed", seed, "", scale="none")\n'
        'report.claim("held", "A claim", True)\n'
        "print(seed, rate, method, widths, fast)"
    )
    write_notebook(root / "notebooks/01_tiny.ipynb", parameters, body)
    write_notebook(
        root / "notebooks/02_broken.ipynb",
        "seed: int = 0  # PRNG seed, in [0, 9]\n",
        "values = [1, 2]",
        "# this cell fails\nvalues[seed + 5]",
    )
    (root / "notebooks/profiles/smoke.yaml").write_text("01_tiny: {seed: 7, widths: [4]}\n")
    (root / "notebooks/profiles/wrong.yaml").write_text("01_tiny: {sed: 7}\n")
    (root / "notebooks/profiles/torn.yaml").write_text("01_tiny: [1\n")
    return root


def write_notebook(path, parameters, *bodies):
    def cell(i, source, tags=()):
        return dict(
            cell_type="code",
            id=f"c{i}",
            execution_count=None,
            metadata=dict(tags=list(tags)) if tags else {},
            outputs=[],
            source=source.splitlines(True),
        )

    title = dict(cell_type="markdown", id="t", metadata={}, source=["# A chapter"])
    cells = [
        title,
        cell(0, parameters, ["parameters"]),
        *(cell(i + 1, b) for i, b in enumerate(bodies)),
    ]
    kernel = dict(kernelspec=dict(name="python3", display_name="Python 3", language="python"))
    notebook = dict(cells=cells, metadata=kernel, nbformat=4, nbformat_minor=5)
    path.write_text(json.dumps(notebook))


def check_report(out, name):
    """The report of a smoke run, looked at."""
    report = json.loads((out / "results" / f"{name}.json").read_text("utf8"))
    assert report["profile"] == "smoke"
    assert report["results"]
    assert report["claims"]
    assert all(r["scale"] and r["unit"] is not None for r in report["results"])
    return report
