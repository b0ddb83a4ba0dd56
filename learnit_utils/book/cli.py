"""The `learnit` command: list, params, run, train, weights in and out, ship-results, verify."""

import argparse
import sys
from pathlib import Path

from learnit_utils import shipped
from learnit_utils.book import runner
from learnit_utils.book.parameters import ParameterError, read_schema

EPILOG = """chapter parameters are given as --NAME VALUE; `learnit params CHAPTER` lists them.
exit status: 0 done, 1 a chapter or a file failed, 2 refused before anything started."""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ParameterError(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="learnit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="the chapters")
    params = commands.add_parser(
        "params", help="a chapter's parameters: type, default, range, help"
    )
    params.add_argument("chapter")
    _add_run(commands)
    _add_train(commands)
    _add_import(commands)
    _add_export(commands)
    kept = commands.add_parser("ship-results", help="take measured pieces into the package")
    kept.add_argument("folder", type=Path, help="pieces/STUDY in the folder of a run")
    commands.add_parser("verify", help="hash every shipped file against its manifest")
    return parser


def _add_run(commands) -> None:
    run = commands.add_parser(
        "run",
        help="run a chapter with papermill",
        usage="learnit run CHAPTER [options] [--NAME VALUE ...]; CHAPTER is a name, or `all`",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    run.add_argument("--profile", default="book", help="book (the defaults), smoke, colab, paper")
    run.add_argument("--out", type=Path, default=Path("runs"), help="folder (default: runs)")
    run.add_argument("--jobs", type=int, help="chapters at a time (default: one per core)")
    run.add_argument("--cell-timeout", type=int, help="seconds a cell may take")
    run.add_argument("--kernel", default="python3", help="Jupyter kernel (default: python3)")
    run.add_argument("--cached", action="store_true", help="leave out what has not changed")


def _add_train(commands) -> None:
    train = commands.add_parser("train", help="meta-train one of the shipped inits, or continue it")
    train.add_argument("name", help="a recipe of learnit_utils.experiments.registry")
    train.add_argument("--out", type=Path, default=Path("runs"), help="folder of the state (runs)")
    train.add_argument("--into", type=Path, help="folder of the weights (default: OUT/NAME)")
    train.add_argument("--steps", type=int, help="outer steps instead of the recipe's")
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another value of a setting, a field of experiments.recipe.Recipe or "
        "shared_training.SharedRecipe, for example "
        "outer_lr=3e-4, field.width=128 or step_sizes=parameter_step; "
        "may be repeated",
    )
    train.add_argument("--anew", action="store_true", help="begin anew, replacing what OUT holds")


def _add_import(commands) -> None:
    read = commands.add_parser(
        "import-weights", help="take in weights of others without executing anything in the file"
    )
    read.add_argument("source", type=Path, help="pickle of haiku or flax, state dict, or npz")
    read.add_argument("target", type=Path, help="a new file in .safetensors")
    read.add_argument("--kind", help="siren, relu, posenc or fourier, where names do not say it")
    read.add_argument("--omega0", help="of a SIREN's first layer")
    read.add_argument("--hidden-omega0", help="of the others (default: the same)")
    read.add_argument("--offset", help="added to the output (0.5)")
    read.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another setting of the network, as in `learnit_utils.fields`, for example "
        "frequencies=20, max_log2=8, scale=1, head=sigmoid; may be repeated",
    )
    read.add_argument(
        "--angular",
        type=Path,
        metavar="FILE.npy",
        help="frequencies of Fourier features, in radians, coordinates x frequencies",
    )
    read.add_argument(
        "--by-frequency",
        action="store_true",
        help="posenc: features stand frequency by frequency, as in learnit and NeRF",
    )


def _add_export(commands) -> None:
    write = commands.add_parser("export-weights", help="write an init for another framework")
    write.add_argument("name", help="one that ships, or a file in .safetensors")
    write.add_argument("target", type=Path, nargs="?", help="a new file (default: by the name)")
    write.add_argument("--to", required=True, help="torch, flax, haiku or npz")


def _overrides(rest: list[str]) -> tuple[str, dict[str, str]]:
    """The chapter, and --name value and --name=value pairs, in any order."""
    chapter, given = None, {}
    words = iter(rest)
    for word in words:
        if chapter is None and not word.startswith("-"):
            chapter = word
            continue
        if not word.startswith("--") or len(word) == 2:
            raise ParameterError(f"{word!r:.60}: parameters are given as --NAME VALUE")
        name, equals, value = word[2:].partition("=")
        if not equals:
            value = next(words, None)
            if value is None:
                raise ParameterError(f"--{name}: a value is missing")
        if name in given:
            raise ParameterError(f"--{name}: given twice")
        given[name] = value
    if chapter is None:
        raise ParameterError("a chapter's name is missing: learnit run CHAPTER [--NAME VALUE ...]")
    return chapter, given


def _list() -> int:
    import json

    for name, path in runner.chapters(runner.book_root()).items():
        first = "".join(json.loads(path.read_text("utf8"))["cells"][0]["source"])
        print(f"{name:20} {first.splitlines()[0].lstrip('# ')}")
    return 0


def _params(chapter: str) -> int:
    for p in read_schema(runner.find(runner.book_root(), chapter)).values():
        print(f"--{p.name:18} {p.type} = {p.default}: {p.help} ({p.allowed})")
    return 0


def _run(a: argparse.Namespace, rest: list[str]) -> int:
    from learnit_utils.book import _workers

    root, (chapter, given) = runner.book_root(), _overrides(rest)
    names = list(runner.chapters(root)) if chapter == "all" else [chapter]
    if chapter == "all" and given:
        raise ParameterError(f"--{next(iter(given))}: a parameter goes to one chapter, not to all")
    workers = _workers.cores() if a.jobs is None else a.jobs
    if workers < 1 or (1 if a.cell_timeout is None else a.cell_timeout) < 1:
        raise ParameterError("--jobs, --cell-timeout: expected integers >= 1")
    options = dict(cell_timeout=a.cell_timeout, kernel=a.kernel)
    jobs = [runner.plan(root, n, a.profile, given, a.out, **options) for n in names]
    runner.check_out(a.out)
    try:
        import papermill  # noqa: F401
    except ModuleNotFoundError:
        raise ParameterError('papermill is missing: pip install "learnit-utils[book]"') from None
    runner.check_kernel(a.kernel)
    for job in jobs:
        if told := job.implied(given):
            print(told, flush=True)
    try:
        if not _workers.execute_all(jobs, workers, a.cached):
            return 1
    except KeyboardInterrupt:
        print("\nlearnit: stopped", file=sys.stderr)
        return 1
    for job in jobs:
        print(job.out / f"{job.name}.ipynb")
    return 0


def _train(a: argparse.Namespace) -> int:
    from learnit_utils.experiments import recipe as recipes
    from learnit_utils.experiments import run, settings, shared_training
    from learnit_utils.experiments.registry import RECIPES, SHARED

    known = RECIPES | SHARED
    if a.name not in known:
        raise ParameterError(f"{a.name!r:.60}: expected one of {', '.join(known)}")
    if a.steps is not None and a.steps < 1:
        raise ParameterError(f"--steps = {a.steps}: expected an integer >= 1")
    try:
        recipe = settings.changed(known[a.name], a.set)
    except recipes.RecipeError as e:
        raise ParameterError(str(e)) from None
    if a.steps is not None:
        recipe = recipes.with_changes(recipe, steps=a.steps)
    for name, value in settings.followed(known[a.name], a.set).items():
        print(f"{a.name}: {name} = {value}, as the other settings need it")
    for folder in (a.out, a.into or a.out):
        runner.check_out(folder)
    try:
        execute = (shared_training if a.name in SHARED else run).execute
        print(execute(a.name, recipe, a.out, a.into, resume=not a.anew))
    except KeyboardInterrupt:
        where = a.out / a.name
        print(f"\nlearnit: stopped; {where} keeps the last saved state", file=sys.stderr)
        return 1
    except (RuntimeError, ValueError, OSError) as e:
        print(f"learnit: {str(e).splitlines()[0]}", file=sys.stderr)
        return 1
    return 0


def _import(a: argparse.Namespace) -> int:
    from learnit_utils.experiments import exchange, settings

    flags = dict(omega0=a.omega0, hidden_omega0=a.hidden_omega0, offset=a.offset)
    given = [f"{name}={value}" for name, value in flags.items() if value is not None]
    try:
        how = settings.of_field(a.kind, [*given, *a.set])
        how |= dict(kind=a.kind, by_frequency=a.by_frequency, angular=a.angular)
        exchange.convert(a.source, a.target, **how)
    except settings.RecipeError as e:
        raise ParameterError(str(e)) from None
    except (ValueError, OSError) as e:
        print(f"learnit: {str(e).splitlines()[0]}", file=sys.stderr)
        return 1
    print(a.target)
    return 0


def _export(a: argparse.Namespace) -> int:
    from learnit_utils.experiments import exchange, store

    if a.to not in exchange.LAYOUTS:
        known = ", ".join(exchange.LAYOUTS)
        raise ParameterError(f"--to = {a.to!r:.60}: expected one of {known}")
    target = a.target or Path(Path(a.name).stem + exchange.LAYOUTS[a.to])
    runner.check_out(target.parent)
    try:
        trained = store.load(a.name)
        for path in exchange.export(trained, a.to, target):
            print(path)
    except (ValueError, OSError) as e:
        print(f"learnit: {str(e).splitlines()[0]}", file=sys.stderr)
        return 1
    if trained.init.step_sizes is not None and a.to != "npz":
        print("its learned step sizes are left out; an npz holds them too")
    return 0


def _ship_results(a: argparse.Namespace) -> int:
    from learnit_utils.book import results

    try:
        print(results.ship(a.folder))
    except (ValueError, OSError) as e:
        print(f"learnit: {str(e).splitlines()[0]}", file=sys.stderr)
        return 1
    return 0


def _verify() -> int:
    rows = shipped.verify()
    for name, problem in rows:
        print(f"{'ok' if problem is None else 'BAD':4} {name}{f': {problem}' if problem else ''}")
    bad = sum(problem is not None for _, problem in rows)
    print(f"{len(rows) - bad} files as shipped, {bad} not")
    return int(bad > 0)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    try:
        parser = _parser()
        a, rest = parser.parse_known_args(argv)
        if rest and a.command != "run":
            raise ParameterError(f"unknown argument {rest[0]!r:.60}")
        if a.command == "run":
            return _run(a, rest)
        if a.command == "train":
            return _train(a)
        if a.command == "import-weights":
            return _import(a)
        if a.command == "export-weights":
            return _export(a)
        if a.command == "ship-results":
            return _ship_results(a)
        if a.command == "params":
            return _params(a.chapter)
        return _list() if a.command == "list" else _verify()
    except ParameterError as e:
        print(f"learnit: {e}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
