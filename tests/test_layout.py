"""The repository keeps its shape: contracts of the rooms, budgets, addresses, environments."""

import ast
import json
import re
import subprocess
import sys
import tomllib
import warnings

import pytest
import yaml
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import address
import chapter_budget

PACKAGE = ROOT / "learnit_utils"
SHELF = ["fields", "metrics", "tasks", "inner", "outer", "train", "evaluate", "baselines", "ntk"]
PRIVATE = ["_epochs", "_files", "_programs", "_state", "_sine", "_unpickle"]
# What each room may import of the package, beside itself: the contracts of the house.
MAY_USE = {
    "private": {"private"},
    "shelf": {"shelf", "private"},
    "shipped": {"private"},
    "forward": {"shelf"},
    "signals": {"forward.cameras", "private", "shipped"},
    "experiments": {"shelf", "private", "shipped", "forward", "signals"},
    "book": {"shelf", "private", "shipped", "forward", "signals", "experiments"},
}
SHELF_LIBRARIES = {"jax", "optax", "numpy", "scipy", "tqdm"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def modules():
    """(name, path) of every module; a room's own __init__ by the room's name."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            yield name, path


def room(name):
    first = name.partition(".")[0]
    if first in SHELF:
        return "shelf"
    return "private" if first in PRIVATE else first


NAMES = {name for name, _ in modules()}


def imports(path):
    """Modules of the package that a file imports, however deep in it."""
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("learnit_utils"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("learnit_utils"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner.removeprefix("learnit_utils.") in NAMES else node.module


@pytest.mark.parametrize(("name", "path"), list(modules()))
def test_a_room_keeps_its_contract(name, path):
    for target in imports(path):
        target = target.removeprefix("learnit_utils.")
        if target == "learnit_utils":  # the package itself: what it says of its modules
            continue
        allowed = {room(name), *MAY_USE[room(name)]}
        assert room(target) in allowed or target in allowed, f"{name} imports {target}"


def test_the_shelf_uses_few_libraries():
    for name, path in modules():
        if room(name) != "shelf":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for library in {n.partition(".")[0] for n in names} - set(sys.stdlib_module_names):
                assert library in {*SHELF_LIBRARIES, "learnit_utils"}, f"{name}: {library}"


def test_only_the_book_reads_its_environment():
    for name, path in modules():
        if room(name) != "book":
            text = path.read_text("utf8")
            assert "LEARNIT" not in text, name
            assert "os.environ" not in text, name


def test_modules_stay_readable():
    lengths = {name: len(path.read_text("utf8").splitlines()) for name, path in modules()}
    long = {name: n for name, n in lengths.items() if n > 400}
    assert not long
    assert sorted(lengths.values())[len(lengths) // 2] < 200


def functions():
    """(module.function, node) of every function of the package."""
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text("utf8"))):
            if isinstance(node, ast.FunctionDef):
                yield f"{name}.{node.name}", node


def body_lines(node):
    """Lines of a function without its signature and docstring."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_functions_stay_short():
    long = {name: n for name, node in functions() if (n := body_lines(node)) > 40}
    assert not long


def test_public_functions_take_at_most_8_arguments():
    for name, node in functions():
        a = node.args
        count = len([x for x in (*a.posonlyargs, *a.args, *a.kwonlyargs) if x.arg != "self"])
        public = not any(part.startswith("_") for part in name.split("."))
        assert count <= 8 or not public, f"{name}: {count} arguments"


def test_public_functions_of_the_mathematics_say_their_types():
    for name, path in modules():
        if room(name) not in ("shelf", "experiments"):
            continue
        for node in ast.parse(path.read_text("utf8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                arguments = (*node.args.args, *node.args.kwonlyargs)
                bare = [a.arg for a in arguments if a.annotation is None]
                assert not bare, f"{name}.{node.name}: {bare}"


def test_the_module_map_is_true():
    """The package's docstring names every public module, and nothing else."""
    import learnit_utils

    public = {n for n in NAMES if not any(part.startswith("_") for part in n.split("."))}
    mapped = map_of_modules(learnit_utils.__doc__)
    where = "the map in the docstring of learnit_utils/__init__.py"
    assert public <= mapped, f"add to {where}: {sorted(public - mapped)}"
    assert mapped <= public, f"not modules, but in {where}: {sorted(mapped - public)}"


def map_of_modules(text):
    """The names in the map: `name  meaning` for the shelf, `room/  name, name (meaning)`."""
    found, room = {"shipped"}, ""
    for line in re.findall(r"^    .*$", text, re.M):
        if head := re.match(r"    ([a-z/]+)/  +", line):
            room = head[1].replace("/", ".")
            found.add(room)
        names = re.sub(r"\(.*\)|    [a-z/]+/", "", line) if room else line.split()[0]
        found |= {f"{room}.{name}".strip(".") for name in re.findall(r"[a-z_]+", names)}
    return found


def run_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_command_does_not_import_jax_or_papermill():
    code = "import sys, learnit_utils.book.cli; print({'jax', 'papermill'} & set(sys.modules))"
    assert run_python(code) == "set()"


def test_importing_the_mathematics_imports_nothing_of_the_book():
    heavy = {"papermill", "pydantic", "matplotlib", "IPython", "PIL", "skimage", "ipywidgets"}
    code = f"import sys, learnit_utils.train, learnit_utils.ntk; print({heavy} & set(sys.modules))"
    assert run_python(code) == "set()"
    code = "import sys, learnit_utils.train; print([m for m in sys.modules if '.book' in m])"
    assert run_python(code) == "[]"


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


def test_dependencies_have_lower_bounds_only():
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
    assert "teaser" in {t for c in nb["cells"] for t in c["metadata"].get("tags", [])}


def misread(source):
    """What Python makes of TeX in a string that is not raw: control characters, bad escapes."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        tree = ast.parse(source)
    yield from (str(w.message) for w in warned)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"[\a\b\f\r\v]\w*|\t[a-z]+|\n(?:abla|eq|ot|u)\b", node.value)


def told_by_truth(source):
    """`values[name] or "a text"`: a 0 among the values would be told as none."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
            *others, last = node.values
            text = isinstance(last, ast.JoinedStr) or isinstance(getattr(last, "value", 0), str)
            if text and any(isinstance(part, ast.Subscript | ast.Call) for part in others):
                yield ast.unparse(node)


def test_no_number_of_a_page_is_told_by_its_truth():
    assert [*told_by_truth('reach[n] or f"more than {k}"')]
    assert [*told_by_truth('steps_to(curve, 20.0) or "never"')]
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text("utf8"))["cells"]:
            if cell["cell_type"] == "code":
                source = re.sub(r"^( *)%.*$", r"\1pass", "".join(cell["source"]), flags=re.M)
                assert [*told_by_truth(source)] == [], cell["id"]


def test_tex_in_a_plain_string_is_found():
    assert list(misread(r's = "$\alpha \nabla L(\theta)$"')) == ["\alpha", "\nabla", "\theta"]
    assert list(misread(r's = "$\cdot$"'))
    assert not list(misread(r's = r"$\alpha \nabla L(\theta) \cdot$"'))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_tex_in_a_chapter_s_code_is_tex(path):
    for cell in json.loads(path.read_text("utf8"))["cells"]:
        if cell["cell_type"] == "code":
            plain = re.sub(r"(?m)^( *)[%!].*", r"\1pass", "".join(cell["source"]))
            assert list(misread(plain)) == [], cell["id"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_chapter_keeps_its_budgets(path):
    assert chapter_budget.measure(path).problems() == []


def test_what_ships_with_the_package_is_installed_with_it():
    """Files beside the modules are named in pyproject.toml, or an installed package lacks them."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["tool"]["setuptools"]
    room = ROOT / "learnit_utils"
    named = {p for pattern in declared["package-data"]["learnit_utils"] for p in room.glob(pattern)}
    listed = subprocess.run(["git", "ls-files", "-z", room], cwd=ROOT, capture_output=True).stdout
    files = {ROOT / name for name in listed.decode().split("\0") if name}
    assert {p for p in files if p.suffix != ".py"} - named == set()


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


def test_every_test_file_has_a_name_of_its_own():
    """Two of one name cannot be collected by one process."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py")]
    assert sorted(names) == sorted(set(names))
