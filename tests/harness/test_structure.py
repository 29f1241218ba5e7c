"""Imports go one way, no name of ours hides one of torch's, and no committed text speaks of the place where it was written."""

import ast
import re
import subprocess
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("refgrad", "conformance")
MAY_IMPORT_TORCH = {"conformance.subjects.eager_torch", "conformance.subjects.compiled_torch"}


# --- the import graph ---------------------------------------------------------------------------------------------------


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(root: Path) -> dict[str, Path]:
    return {module_name(path, root): path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))}


def at_load(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is loaded: all of it but the bodies of functions and what is for type checkers."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield from at_load(child)


def imported(nodes: Iterable[ast.AST], package: str, ours: Container[str]) -> Iterator[str]:
    """The modules that these nodes import. ``from a import b`` means ``a.b`` where that is a module of ours, else ``a``."""
    for node in nodes:
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                parents = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                base = ".".join([*parents, *([module] if module else [])])
                yield from (full if (full := f"{base}.{alias.name}") in ours else base for alias in names)
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=[ast.Constant(value=str(name)), *_]):
                if called in ("import_module", "__import__"):
                    yield name


def import_graph(root: Path = ROOT, walk: Callable[[ast.AST], Iterator[ast.AST]] = ast.walk) -> "nx.DiGraph[str]":
    """Module → what it imports: modules of ours by full name, all others by their top-level name. ``walk`` says where we look."""
    ours, graph = modules(root), nx.DiGraph()
    for name, path in ours.items():
        graph.add_node(name)
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for target in imported(walk(ast.parse(path.read_text())), package, ours):
            graph.add_edge(name, target if target in ours else target.partition(".")[0])
    return graph


def reach(graph: "nx.DiGraph[str]", inside: str) -> dict[str, set[str]]:
    """For each module of a package: everything that importing it may import, by whatever way."""
    return {name: nx.descendants(graph, name) for name in graph if f"{name}.".startswith(f"{inside}.")}


def offenders(graph: "nx.DiGraph[str]", inside: str, forbidden: Iterable[str]) -> dict[str, list[str]]:
    """Modules inside that reach something forbidden, with what."""
    reached = {name: {target.partition(".")[0] for target in targets} for name, targets in reach(graph, inside).items()}
    return {name: sorted(tops & set(forbidden)) for name, tops in reached.items() if tops & set(forbidden)}


def cycles(graph: "nx.DiGraph[str]", depth: int) -> list[list[str]]:
    """Groups of modules that import each other, after modules below ``depth`` names were taken for one."""
    short = nx.DiGraph((".".join(a.split(".")[:depth]), ".".join(b.split(".")[:depth])) for a, b in graph.edges)
    return [sorted(group) for group in nx.strongly_connected_components(short) if len(group) > 1]


@pytest.fixture(scope="module")
def graph() -> "nx.DiGraph[str]":
    return import_graph()


def test_refgrad_knows_neither_torch_nor_conformance(graph: "nx.DiGraph[str]") -> None:
    assert offenders(graph, "refgrad", ["torch", "conformance"]) == {}


def test_the_minimizer_knows_neither_torch_nor_refgrad(graph: "nx.DiGraph[str]") -> None:
    assert offenders(graph, "conformance.minimize", ["torch", "refgrad"]) == {}


def test_only_the_torch_subjects_import_torch(graph: "nx.DiGraph[str]") -> None:
    assert set(graph.predecessors("torch") if "torch" in graph else ()) <= MAY_IMPORT_TORCH


def test_no_module_needs_itself_to_load() -> None:
    """refgrad's engine calls itself in circles by nature, which late imports serve; loading must not."""
    assert cycles(import_graph(walk=at_load), 9) == []


def test_the_parts_of_conformance_import_one_way_late_or_early(graph: "nx.DiGraph[str]") -> None:
    assert cycles(graph.subgraph(n for n in graph if n.startswith("conformance.")), 2) == []


# --- the tests of these tests -------------------------------------------------------------------------------------------


def planted(root: Path, **sources: str) -> "nx.DiGraph[str]":
    """The graph of a tree that holds these modules; ``__`` in a name stands for a dot."""
    for name, source in sources.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return import_graph(root)


@pytest.mark.parametrize(
    "source",
    [
        "import torch",
        "import torch.nn as nn",
        "from torch import Tensor",
        "def f():\n    import torch",
        "import importlib\nimportlib.import_module('torch.nn')",
        "from . import b",
        "from .b import x",
        "from refgrad.b import x",
    ],
)
def test_every_way_to_torch_is_seen(source: str, tmp_path: Path) -> None:
    graph = planted(tmp_path, refgrad__a=source, refgrad__b="import torch")
    assert offenders(graph, "refgrad", ["torch"]) == {"refgrad.a": ["torch"], "refgrad.b": ["torch"]}


def test_a_cycle_is_seen_between_parts_and_at_load(tmp_path: Path) -> None:
    three, one = "from conformance.a import one", "import conformance.b.two"
    late, never = "def late():\n    from conformance.a import three", "if TYPE_CHECKING:\n    from conformance.a import three"
    graph = planted(tmp_path, conformance__a__three=three, conformance__a__one=one, conformance__b__two=late)
    assert cycles(graph, 2) == [["conformance.a", "conformance.b"]]
    assert cycles(import_graph(tmp_path, at_load), 9) == []
    planted(tmp_path, conformance__b__two=never)
    assert cycles(import_graph(tmp_path, at_load), 9) == []
    planted(tmp_path, conformance__b__two="class C:\n    from conformance.a import three")
    assert cycles(import_graph(tmp_path, at_load), 9) == [["conformance.a.one", "conformance.a.three", "conformance.b.two"]]


# --- names --------------------------------------------------------------------------------------------------------------


def shadowing(paths: Iterable[Path], functions: Iterable[str]) -> list[str]:
    """Importable files and folders that torch, or one of its functions, is called by. What stands below an underscore is private."""
    taken = {"torch", "ops", *functions}
    return sorted(str(path) for path in paths if not is_private(path) and set(path.with_suffix("").parts) & taken)


def is_private(path: Path) -> bool:
    return any(re.match(r"_(?!_)", part) for part in path.parts)


def test_no_module_or_folder_hides_torch_or_a_function_of_its() -> None:
    import refgrad

    functions = {name for name in dir(refgrad) if callable(getattr(refgrad, name)) and not name.startswith("_")}
    assert {"exp", "tensor"} <= functions
    assert shadowing((path for path in committed() if path.suffix == ".py"), functions) == []


def test_a_name_that_hides_torch_is_seen() -> None:
    guilty = ["conformance/known/torch/__init__.py", "refgrad/exp.py", "refgrad/ops.py"]
    innocent = ["refgrad/_exp.py", "refgrad/_ops/exp.py", "conformance/explain.py", "conformance/known_torch.py"]
    assert shadowing(map(Path, guilty + innocent), ["exp"]) == guilty


# --- words --------------------------------------------------------------------------------------------------------------

#: what only the writing of this project knows about. Each pattern is spelt so that it does not match itself.
WORKSHOP = {
    "a path of one machine": r"(?<![\w.])/(?:[w]ork|[r]oot|[h]ome/\w+)/",
    "a registry's host": r"[p]ypi\.(?:org|python)|[p]ythonhosted\.|[d]eb\.debian\.|registry\.[n]pmjs",
    "an issue of ours (upstream's are written pytorch#N)": r"(?i)\b[i]ssue #?\d",
    "who wrote it": r"(?i)\b(?:this [s]ession|helper [s]ession|[c]hatgpt|[c]laude|as an [a]i)\b",
}


def committed() -> list[Path]:
    """The files that git has or would take, relative to the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [Path(name) for name in listing if (ROOT / name).is_file()]


def workshop_words(text: str) -> list[str]:
    return [f"{what}: {found.group()}" for what, pattern in WORKSHOP.items() for found in re.finditer(pattern, text)]


def test_no_committed_text_speaks_of_the_workshop() -> None:
    found = {str(path): workshop_words((ROOT / path).read_text("utf-8", "ignore")) for path in committed()}
    assert len(found) > 20 and {path: words for path, words in found.items() if words} == {}


@pytest.mark.parametrize("what", ["/ro_ot/x", "in /wo_rk/main", "/ho_me/me/x", "py_pi.org", "see iss_ue #3", "Iss_ue 12", "this ses_sion"])
def test_a_word_of_the_workshop_is_seen(what: str) -> None:
    assert len(workshop_words(what.replace("_", ""))) == 1


@pytest.mark.parametrize("what", ["pytorch#196459", "a/b/network/c", "nox.Session", "start_new_session", "reports/runs", "tests/work/x"])
def test_other_words_are_left_alone(what: str) -> None:
    assert workshop_words(f"# {what}") == []
