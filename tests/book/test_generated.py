"""What the book's extension writes into pages, in words."""

import importlib.util
import sys

import pytest
from conftest import ROOT

from learnit_utils.experiments.registry import RECIPES


@pytest.fixture(scope="module")
def extension():
    folder = ROOT / "book/_ext"
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location("learnit_book", folder / "learnit_book.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(folder))


@pytest.mark.parametrize("name", RECIPES)
def test_what_an_init_was_learned_from_is_what_was_counted(extension, name):
    """Of a place, photographs are tasks: it is not so many places."""
    settings = RECIPES[name].settings()
    words = extension._learned_from(settings, 90)
    options = settings["options"]
    if settings["forward"] == "photographs":
        assert words == f"90 photographs of the {options['landmark']}"
    elif settings["forward"] == "object_views":
        assert words.startswith(f"90 {options['kind']}, ")
        assert words.endswith("of each")
    else:
        assert words.startswith(f"90 {settings['signals']}")
