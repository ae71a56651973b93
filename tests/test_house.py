"""Imports go one way, and no file names this machine."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
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
    ],
)
def test_rooms_do_not_reach_into_others(room: str, forbidden: set[str]) -> None:
    reached = {(file.name, name) for file in files(room) for name in set(imports(file))}
    assert [pair for pair in sorted(reached) if pair[1] in forbidden] == []


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
