"""Small faults put into the code of trie, collisions and generation, one at a time: do the tests notice?

Each mutant is one change of one expression or statement. The tests of its package run until the first failure, its own
module's first. A mutant that no test notices survives, and is listed to be read and judged.
"""

import ast
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from attack.row import Row

TITLE = "Mutants"
ROOT = Path(__file__).parents[2]
PACKAGES = ("trie", "collisions", "generation")
# One line for each mutant that was tried; remove it to begin anew, as after a change of the code.
TRIED = Path(__file__).parent / "results" / "mutants.jsonl"
COUNT, SEED = 300, 0
# Tests that never end are a sign, too; the slowest package takes a few minutes.
MOST_SECONDS = 1500
# Exit status of a process in which pytest itself failed; those of pytest are 0 to 5.
NOT_RUN = 99

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATIONS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip


def changes(node):
    """Return the ways to change one node of a syntax tree, as functions that change it in place, each with its name."""
    found = []
    if isinstance(node, ast.Compare):
        for at, op in enumerate(node.ops):
            if to := COMPARISONS.get(type(op)):
                found.append((f"comparison {type(op).__name__}", lambda n, at=at, to=to: _put(n.ops, at, to())))
    elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in OPERATIONS and not _is_union(node):
        to = OPERATIONS[type(node.op)]
        found.append((f"operation {type(node.op).__name__}", lambda n: setattr(n, "op", to())))
    elif isinstance(node, ast.BoolOp):
        other = ast.Or if isinstance(node.op, ast.And) else ast.And
        found.append((f"operation {type(node.op).__name__}", lambda n: setattr(n, "op", other())))
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        found.append((f"constant {node.value}", lambda n: setattr(n, "value", not n.value)))
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        found.append((f"constant {node.value}", lambda n: setattr(n, "value", n.value + 1)))
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        found.append(("condition negated", lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        found.append(("call left out", lambda n: setattr(n, "value", ast.Constant(None))))
    elif isinstance(node, ast.Return) and node.value is not None:
        found.append(("None returned", lambda n: setattr(n, "value", ast.Constant(None))))
    return found


def _is_union(node):
    """Tell whether an operation is a union of types such as ``int | None``."""
    return isinstance(node, ast.BinOp) and isinstance(node.right, ast.Constant) and node.right.value is None


def _put(values, at, value):
    values[at] = value


def nodes_to_change(tree):
    """Yield every node that runs: no annotation, docstring, list of public names or text of a message."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            continue
        if isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Raise):
            continue
        yield node
        if isinstance(node, ast.AnnAssign):
            if node.value is not None:
                yield node.value
                yield from nodes_to_change(node.value)
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in [*node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]:
                if argument is not None:
                    argument.annotation = None
            yield from nodes_to_change(node)
        else:
            yield from nodes_to_change(node)


def all_mutants():
    """Return every possible mutant: package, file, number of the node, number of the change, line and words."""
    found = []
    for package in PACKAGES:
        for file in sorted((ROOT / "semid" / package).glob("*.py")):
            for at, node in enumerate(nodes_to_change(ast.parse(file.read_text()))):
                for which, (words, _) in enumerate(changes(node)):
                    line = ast.unparse(node).splitlines()[0]
                    found.append(
                        {
                            "package": package, "file": str(file.relative_to(ROOT)), "node": at, "change": which,
                            "line": node.lineno, "words": words, "code": line,
                        }
                    )  # fmt: skip
    return found


def mutated(mutant):
    """Return the source with the change."""
    tree = ast.parse((ROOT / mutant["file"]).read_text())
    node = next(node for at, node in enumerate(nodes_to_change(tree)) if at == mutant["node"])
    changes(node)[mutant["change"]][1](node)
    return ast.unparse(ast.fix_missing_locations(tree))


def tests_of(mutant, tree):
    """Return the files of tests of a mutant's package, the one of its own module first."""
    folder = tree / "tests" / mutant["package"]
    own = folder / f"test_{Path(mutant['file']).stem}.py"
    others = sorted(folder.glob("test_*.py"), key=lambda file: (file != own, file.stat().st_size))
    return [str(file) for file in others]


def survives(mutant, tree):
    """Put the change in place, run the tests in a forked process, and return whether all of them pass."""
    import pytest

    file = tree / mutant["file"]
    original = file.read_text()
    file.write_text(mutated(mutant))
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(tree)
        sys.dont_write_bytecode = True
        try:
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
                os.dup2(nowhere.fileno(), 1)
                options = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
                os._exit(int(pytest.main([*options, *tests_of(mutant, tree)])))
        finally:
            os._exit(NOT_RUN)
    status = _status(child)
    file.write_text(original)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) not in (0, 1, 2):
        raise RuntimeError(f"pytest could not run the tests of {mutant}: exit status {os.WEXITSTATUS(status)}")
    return status == 0


def _status(child):
    """Wait for a forked process and return its exit status; one that does not end is killed and counts as failed."""
    until = time.monotonic() + MOST_SECONDS
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def work():
    """Try the mutants that come in on standard input, in a copy of the tree; print one line of JSON for each."""
    # Loaded once, before the forks; semid itself is not loaded here.
    import numba  # noqa: F401
    import transformers.generation  # noqa: F401

    mutants = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch)
        for name in ("semid", "semid_ext", "tests"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("results"))
        for name in ("pyproject.toml", "conftest.py"):
            shutil.copy(ROOT / name, tree)
        sys.path[:] = [one for one in sys.path if Path(one or ".").resolve() != ROOT]
        for mutant in mutants:
            started = time.monotonic()
            mutant["survived"] = survives(mutant, tree)
            mutant["seconds"] = round(time.monotonic() - started, 1)
            sys.stdout.write(json.dumps(mutant) + "\n")
            sys.stdout.flush()


def attack(scale):
    """Try a sample of all mutants; those that were tried before an interrupt are not tried again."""
    mutants = random.Random(SEED).sample(all_mutants(), max(1, round(COUNT * scale)))
    known = {}
    if TRIED.exists():
        for line in TRIED.read_text().splitlines():
            mutant = json.loads(line)
            known[place_of(mutant)] = mutant
    left = [mutant for mutant in mutants if place_of(mutant) not in known]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "attack.mutants"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=tempfile.gettempdir(),
        )
        for _ in range(min(len(left), len(os.sched_getaffinity(0))))
    ]  # fmt: skip
    for at, worker in enumerate(workers):
        json.dump(left[at :: len(workers)], worker.stdin)
        worker.stdin.close()
    with ThreadPoolExecutor(max(1, len(workers))) as pool:
        for tried in pool.map(_collect, workers):
            known |= tried
    found = [known[place_of(mutant)] for mutant in mutants if place_of(mutant) in known]
    if len(found) != len(mutants):
        raise RuntimeError(f"{len(found)} of {len(mutants)} mutants were tried: a worker ended early, run it again")
    return rows_of(found)


def place_of(mutant):
    """Return what tells a mutant from all others."""
    return tuple(mutant[name] for name in ("file", "node", "change", "code"))


def _collect(worker):
    """Note each mutant as soon as it has been tried."""
    tried = {}
    for line in worker.stdout:
        mutant = json.loads(line)
        tried[place_of(mutant)] = mutant
        with TRIED.open("a") as file:
            file.write(line)
    return tried


def rows_of(tried):
    """Return a row for each package; the survivors are listed on the page by `table`."""
    rows = []
    for package in PACKAGES:
        of_package = [mutant for mutant in tried if mutant["package"] == package]
        if of_package:
            survivors = [
                f"`{one['file']}:{one['line']}` {one['words']}: `{one['code']}`"
                for one in of_package
                if one["survived"]
            ]
            figures = {"noticed": len(of_package) - len(survivors)}
            rows.append(Row(f"changes in `semid/{package}`", len(of_package), {}, figures, survivors))
    return rows


if __name__ == "__main__":
    work()
