"""The house measured: who imports whom, how long files and functions are, which names occur twice.

`python -m tests.support.house` prints it.
"""

import ast
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("fmnist_common", "trainer", "study", "analysis", "fmnist_study")

Imports = Mapping[str, frozenset[str]]  # by name: the names that it imports, never itself


@dataclass(frozen=True)
class Function:
    """A function or method, nested ones too."""

    place: str  # file:line name
    lines: int  # from its `def` to its end, docstring and all


def modules(package: str) -> dict[str, Path]:
    """Return a package's modules by their full names; a package's own `__init__` has its name."""
    found = {}
    for file in sorted((ROOT / package).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


@cache
def tree(file: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(package: str) -> Imports:
    """Return the imports among a package's modules: at the top, in functions and for types alone.

    A package of the chain on the way to a module (`study` of `study.run.work`) does not count,
    unless a name of its own is imported.
    """
    files = modules(package)
    graph: dict[str, frozenset[str]] = {}
    for name, file in files.items():
        reached = set()
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Import):
                reached |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: imports are absolute here"
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    reached.add(inner if inner in files else str(node.module))
        graph[name] = frozenset(reached & files.keys() - {name})
    return graph


def circles(graph: Imports) -> list[list[str]]:
    """Return the groups of modules that reach each other (strongly connected components)."""
    reach = {name: _reached(name, graph) for name in graph}
    groups = {
        frozenset(other for other in reach[name] if name in reach[other])
        for name in graph
        if name in reach[name]
    }
    return sorted(sorted(group) for group in groups)


def _reached(start: str, graph: Imports) -> frozenset[str]:
    reached: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += graph[name]
    return frozenset(reached)


def wings(package: str) -> Imports:
    """Return the imports among a package's direct parts."""
    graph: dict[str, set[str]] = defaultdict(set)
    for name, reached in imports(package).items():
        if name == package:
            continue
        wing = name.split(".")[1]
        graph[wing] |= {other.split(".")[1] for other in reached if other != package} - {wing}
    return {wing: frozenset(others) for wing, others in graph.items()}


def floors(graph: Imports) -> dict[str, int]:
    """Return each part's floor: 1 stands on nothing, others one above the highest they stand on.

    Raises:
        RecursionError: they stand in a circle.
    """

    @cache
    def floor(name: str) -> int:
        return 1 + max((floor(other) for other in graph[name]), default=0)

    return {name: floor(name) for name in graph}


def lengths(*packages: str) -> dict[str, int]:
    """Return the number of lines of each file."""
    return {
        str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines())
        for package in packages
        for file in modules(package).values()
    }


def functions(*packages: str) -> list[Function]:
    """Return all functions."""
    return [
        Function(f"{file.relative_to(ROOT)}:{node.lineno} {node.name}", _lines(node))
        for package in packages
        for file in modules(package).values()
        for node in ast.walk(tree(file))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def percentile(values: list[int], share: float) -> int:
    """Return the smallest value that this share of all values does not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def types(package: str) -> dict[str, list[str]]:
    """Return a package's public types, aliases too, and the public modules that define each."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, file in modules(package).items():
        if any(part.startswith("_") for part in name.split(".")):
            continue
        for type_name in set(_types(tree(file))):
            found[type_name].append(name)
    return found


def _types(module: ast.Module) -> Iterator[str]:
    for node in module.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name
        elif isinstance(node, ast.Assign) and not isinstance(node.value, ast.Call | ast.Constant):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            yield from (n for n in names if n[0].isupper() and not n.isupper())


def main() -> None:
    """Print the house as it is."""
    print(f"{'package':14} {'modules':>7} {'lines':>6} {'parts':>5} {'floors':>6} {'circles':>7}")
    for package in PACKAGES:
        rings = circles(wings(package))
        height = "-" if rings else max(floors(wings(package)).values(), default=0)
        counts = lengths(package)
        ring_count = len(circles(imports(package)))
        parts = len(wings(package))
        row = f"{len(counts):7} {sum(counts.values()):6} {parts:5} {height:>6} {ring_count:7}"
        print(f"{package:14} {row}")
        for ring in circles(imports(package)):
            print(f"  circle: {', '.join(ring)}")
    print("\nlongest files")
    for name, lines in Counter(lengths(*PACKAGES)).most_common(8):
        print(f"  {lines:4}  {name}")
    every = functions(*PACKAGES)
    counts_ = [own.lines for own in every]
    middle, most = percentile(counts_, 0.5), percentile(counts_, 0.95)
    print(f"\n{len(every)} functions, median {middle} lines, 95 % up to {most}; the longest")
    for own in sorted(every, key=lambda own: -own.lines)[:12]:
        print(f"  {own.lines:4}  {own.place}")
    print("\ntype names that occur twice in a package")
    for package in PACKAGES:
        for name, places in sorted(types(package).items()):
            if len(places) > 1:
                print(f"  {name}: {', '.join(places)}")


if __name__ == "__main__":
    main()
