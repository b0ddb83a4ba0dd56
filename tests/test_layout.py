"""The repository keeps its shape: floors, addresses, environments, stripped notebooks."""

import ast
import json
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import address

FLOORS = {  # module -> floor; a module imports only from lower floors
    "fields": 0,
    "metrics": 0,
    "parameters": 0,
    "assets": 0,
    "cost": 0,
    "unpickle": 0,
    "signals.base": 0,
    "cameras": 0,
    "observe": 0,
    "signals": 0,
    "observe.pixels": 1,
    "signals.photos": 1,
    "signals.local": 1,
    "signals.faces": 1,
    "signals.sdf": 1,
    "signals.text": 1,
    "signals.phantoms": 1,
    "signals.objects": 1,
    "signals.landmarks": 1,
    "signals.colmap": 2,
    "observe.tomography": 1,
    "observe.volume": 1,
    "checkpoint": 1,
    "figures": 1,
    "chapter": 1,
    "diagrams": 1,
    "weights": 2,
    "measured": 2,
    "pickles": 3,
    "inner": 2,
    "outer": 2,
    "tasks": 2,
    "slider": 2,
    "portraits": 3,
    "observe.photographs": 3,
    "train": 3,
    "evaluate": 3,
    "ntk": 3,
    "runner": 3,
    "measures": 4,
    "recipes": 5,
    "__main__": 6,
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def modules():
    package = ROOT / "learnit_utils"
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            yield name, path


def imports(path):
    """Modules of the package that a file imports, however deep in it."""
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("learnit_utils"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("learnit_utils"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = inner.removeprefix("learnit_utils.") in FLOORS
                yield inner if is_module else node.module


def test_every_module_has_a_floor():
    assert {name for name, _ in modules()} == set(FLOORS)


@pytest.mark.parametrize(("name", "path"), list(modules()))
def test_modules_import_only_from_lower_floors(name, path):
    for target in imports(path):
        target = target.removeprefix("learnit_utils.")
        assert FLOORS[target] < FLOORS[name], f"{name} imports {target}"


def test_importing_the_command_does_not_import_jax_or_papermill():
    code = "import sys, learnit_utils.__main__; print({'jax', 'papermill'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n"


def test_the_address_is_the_same_everywhere():
    assert address.problems() == []


def test_changing_the_address_changes_every_place(tmp_path, monkeypatch):
    for file in ("pyproject.toml", "_config.yml", "README.md", "CITATION.cff", "environment.yml"):
        (tmp_path / file).write_bytes((ROOT / file).read_bytes())
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "book").mkdir()
    for path in NOTEBOOKS:
        (tmp_path / "notebooks" / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(address, "ROOT", tmp_path)
    assert address.main(["https://github.com/somebody/some-book"]) == 0
    left = [p.name for p in tmp_path.rglob("*.*") if "OWNER/" in p.read_text("utf8")]
    assert left == []
    assert address.main(["http://example.org"]) == 2


def test_environments_agree():
    """environment.yml installs the lock; the lock and the ranges name the same packages."""
    env = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert "-r requirements.lock" in env["dependencies"][-1]["pip"]
    assert f"python{PROJECT['requires-python']}" in env["dependencies"]
    lock = (ROOT / "requirements.lock").read_text()
    locked = {re.sub(r"[-_.]+", "-", n).lower() for n in re.findall(r"^([\w.-]+)==", lock, re.M)}
    wanted = [*PROJECT["dependencies"]]
    for extra in ("book", "dev"):
        wanted += PROJECT["optional-dependencies"][extra]
    for requirement in wanted:
        name = re.match(r"[\w.-]+", requirement)[0].lower()
        assert name == "learnit-utils" or re.sub(r"[-_.]+", "-", name) in locked, name
    pins = re.findall(r"^[\w.-]+==.*$", lock, re.M)
    assert len(pins) > 100
    assert all(pin.endswith("\\") for pin in pins)  # a hash follows on the next line
    assert lock.count("--hash=sha256:") >= len(pins)


def test_dependencies_have_floors_only():
    for requirement in PROJECT["dependencies"]:
        assert re.fullmatch(r"[\w-]+>=[\d.]+", requirement), requirement


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_committed_chapters_are_clean(path):
    nb = json.loads(path.read_text("utf8"))
    assert nb["metadata"]["kernelspec"]["name"] == "python3"
    code = [c for c in nb["cells"] if c["cell_type"] == "code"]
    assert all(not c["outputs"] and c["execution_count"] is None for c in code)
    assert len({c["id"] for c in nb["cells"]}) == len(nb["cells"])
    assert sum("parameters" in c["metadata"].get("tags", []) for c in code) == 1
    for cell in code:
        assert len("".join(cell["source"]).splitlines()) <= 30, cell["id"]


def test_files_stay_readable():
    lengths = sorted(len(p.read_text("utf8").splitlines()) for _, p in modules())
    assert lengths[len(lengths) // 2] < 200


def test_the_repository_stays_small():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True).stdout
    files = [ROOT / name for name in listed.decode().split("\0") if name]
    assert sum(path.stat().st_size for path in files if path.exists()) < 25e6


def test_the_readme_shows_every_chapter():
    readme = (ROOT / "README.md").read_text("utf8")
    for path in NOTEBOOKS:
        first = "".join(json.loads(path.read_text("utf8"))["cells"][0]["source"])
        title, question = re.match(r"# (.*)\n\n\*\*Question\.\*\* (.*)\n", first).groups()
        assert f"[{title}](notebooks/{path.name}) | {question} |" in readme
        assert f"(book/figures/{path.stem}.webp)" in readme
        assert (ROOT / "book/figures" / f"{path.stem}.webp").stat().st_size < 60_000
