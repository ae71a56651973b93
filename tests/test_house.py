"""Imports go one way and in no circle, files and functions are short, a type's name is its own.

`python -m tests.support.house` prints how the house stands.
"""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from setuptools import find_packages

from tests.support import house
from tests.support.house import PACKAGES, ROOT

HEAVY = {"torch", "torchvision", "optuna", "plotly", "hiplot"}


def imports(file: Path, *, top_level: bool = False) -> Iterator[str]:
    """Name the packages that a file imports; those for types alone do not count."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            skipped.update(inner for part in node.body for inner in ast.walk(part))
        if top_level and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            skipped.update(inner for part in node.body for inner in ast.walk(part))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute here"
            yield str(node.module).partition(".")[0]


def files(room: str) -> list[Path]:
    found = sorted((ROOT / room).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("trainer", {"study", "analysis", "optuna", "sqlalchemy", "typer", "rich", "hiplot"}),
        ("analysis", {"study", "trainer", "torch", "torchvision", "typer"}),
        ("study", {"hiplot", "plotly", "torchvision"}),
        ("fmnist_common", {"study", "trainer", "analysis"}),
        # The façade is everybody's guest and nobody's host.
        *((room, {"fmnist_study"}) for room in ("fmnist_common", "trainer", "study", "analysis")),
    ],
)
def test_rooms_do_not_reach_into_others(room: str, forbidden: set[str]) -> None:
    reached = {(file.name, name) for file in files(room) for name in set(imports(file))}
    assert [pair for pair in sorted(reached) if pair[1] in forbidden] == []


def test_the_facade_loads_nothing_heavy_and_trains_nothing_itself() -> None:
    for file in files("fmnist_study"):
        assert not set(imports(file, top_level=True)) & (HEAVY | {"pandas"})
    entry = set(imports(ROOT / "fmnist_study" / "__init__.py", top_level=True))
    assert entry <= {*sys.stdlib_module_names, "trainer"}  # for the base class of errors


def test_the_common_ground_needs_the_standard_library_only() -> None:
    reached = {name for file in files("fmnist_common") for name in imports(file)}
    assert reached <= {*sys.stdlib_module_names, "fmnist_common"}


def test_only_the_command_line_reaches_analysis_and_only_inside_commands() -> None:
    reaching = [file for file in files("study") if "analysis" in imports(file)]
    commands = files("study/cli")
    assert set(reaching) <= set(commands)
    at_start = {name for file in commands for name in imports(file, top_level=True)}
    assert not at_start & (HEAVY | {"analysis", "rich", "scipy", "numpy"})


def test_reading_results_starts_without_what_is_slow_to_load() -> None:
    for file in files("analysis"):
        assert not set(imports(file, top_level=True)) & {"torch", "optuna", "sklearn"}


def test_configs_plans_and_results_need_no_torch() -> None:
    plans = (
        "study/plans/plan.py",
        "study/plans/plan_file.py",
        "study/plans/variants.py",
        "study/plans/reported.py",
    )
    for name in ("trainer/config.py", "trainer/results.py", "trainer/files.py", *plans):
        assert not set(imports(ROOT / name, top_level=True)) & HEAVY


def test_no_tracked_file_names_this_machine() -> None:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout: nothing says which files are tracked")
    places = [f"/{place}/" for place in ("work", "tmp/w", "root", "home")]
    named = []
    for name in listed.stdout.split("\0"):
        file = ROOT / name
        if name and file.is_file() and file.suffix in {".py", ".md", ".toml", ".txt", ".yml", ""}:
            text = file.read_text(encoding="utf-8", errors="replace")
            named += [(name, place) for place in places if place in text]
    assert named == []


# The shape of the house. Each test names all that offend.


def none_of(offenders: Iterable[object]) -> None:
    """Fail with a line for each offender: pytest would leave most of them out."""
    lines = [str(own) for own in offenders]
    assert not lines, "\n" + "\n".join(lines)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other_not_even_late_or_for_types(package: str) -> None:
    none_of(house.circles(house.imports(package)))


def test_study_has_three_floors() -> None:
    wings = house.wings("study")
    none_of(house.circles(wings))
    floors = house.floors(wings)
    assert max(floors.values()) == 3
    assert {wing for wing, floor in floors.items() if floor == 1} == {"plans", "store"}
    assert {wing for wing, floor in floors.items() if floor == 3} == {"cli"}


def test_a_file_tells_one_idea() -> None:
    none_of(f"{name}: {n}" for name, n in house.lengths(*PACKAGES).items() if n > 450)


def test_a_function_fits_a_screen() -> None:
    functions = house.functions(*PACKAGES)
    none_of(own for own in functions if own.lines > 70)
    assert house.percentile([own.lines for own in functions], 0.95) <= 30


@pytest.mark.parametrize("package", PACKAGES)
def test_a_type_has_its_name_to_itself(package: str) -> None:
    none_of(f"{name}: {at}" for name, at in house.types(package).items() if len(at) > 1)


def test_the_build_finds_every_package_and_what_says_that_it_is_typed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    include = settings["tool"]["setuptools"]["packages"]["find"]["include"]
    found = set(find_packages(str(ROOT), include=include))
    tracked = {
        name
        for package in PACKAGES
        for name, file in house.modules(package).items()
        if file.name == "__init__.py"
    }
    assert found == tracked
    data = settings["tool"]["setuptools"]["package-data"]
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").is_file()
        assert any("py.typed" in names for key, names in data.items() if key in (package, "*"))


def test_the_house_is_measured_as_it_is() -> None:
    """A circle through a function or through types is one; so is a chain of floors."""
    graph = {"a": frozenset({"b"}), "b": frozenset({"c"}), "c": frozenset({"b"}), "d": frozenset()}
    assert house.circles(graph) == [["b", "c"]]
    assert house.floors({"a": frozenset({"b"}), "b": frozenset()}) == {"a": 2, "b": 1}
    assert house.percentile([1, 2, 3, 4], 0.5) == 2
    late = house.imports("study")["study.cli.running"]  # only inside its commands
    assert "study.run.session" in late


def test_no_tracked_file_calls_a_project_by_a_number() -> None:
    """A seed is a random seed; who reads the repository sees no list of issues."""
    words = r"seeds?[ _]?00[0-9]|issue #?[0-9]"
    found = subprocess.run(
        ["git", "-C", str(ROOT), "grep", "-I", "-niE", words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if found.returncode not in (0, 1):
        pytest.skip("not a git checkout: nothing says which files are tracked")
    assert found.stdout == ""
