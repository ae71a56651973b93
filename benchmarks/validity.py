"""Are claims as rare as promised where there is nothing, and as frequent where there is?

    python benchmarks/validity.py                  # all tables, a few minutes, rough
    python benchmarks/validity.py --studies 3000   # as in docs/statistics.md; hours
    python benchmarks/validity.py errors power     # some of them

`errors`: the chance of any false claim in an ablation without differences, by how variants scatter.
`power`: the chance to find the one level that differs. `factorials`: false claims of a factorial
whose factors do something else in every seed. `sequential`: studies that stop when they are sure,
beside a fixed number of seeds. Studies are simulated, so that their truth is known.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parent.parent)  # not this folder: here `study` is a script

import argparse

from tests.support.simulated import (
    SCATTERS,
    factorial_claims,
    false_claims,
    fixed,
    power,
    until_sure,
)

PUBLISHED = ("published sds", "published residuals")


def row(*cells: object) -> None:
    """Print a row of a Markdown table."""
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def percent(share: float) -> str:
    """Write a share."""
    return f"{100 * share:.1f}"


def errors(studies: int) -> None:
    """Print the chance of any false claim, in %."""
    print(f"\nfalse claims in % of {studies} studies without a difference\n")
    sizes = [(variants, seeds) for variants in (5, 22) for seeds in (3, 5, 10)]
    row("method", "scatter", *(f"{variants} variants, {seeds} seeds" for variants, seeds in sizes))
    row(*["---"] * 2, *["--:"] * len(sizes))
    for method in ("joint", "pooled"):
        for scatter in SCATTERS:
            counts = [false_claims(method, scatter, *size, studies) for size in sizes]
            row(method, scatter, *(percent(count / studies) for count in counts))


def powers(studies: int) -> None:
    """Print the chance to find a difference, in %."""
    print(f"\npower in % of {studies} studies, 22 variants, one of which differs\n")
    sizes = [(seeds, difference) for seeds in (5, 10) for difference in (0.5, 1.0)]
    row("method", "scatter", *(f"{seeds} seeds, {points} points" for seeds, points in sizes))
    row(*["---"] * 2, *["--:"] * len(sizes))
    for method in ("joint", "strict"):
        for scatter in PUBLISHED:
            row(
                method,
                scatter,
                *(percent(power(method, scatter, *size, studies)) for size in sizes),
            )


def factorials(studies: int) -> None:
    """Print the chance of any false claim in a factorial of 24 cells, in %."""
    print(f"\nfalse claims in % of {studies} factorials without a main effect\n")
    row("seeds", "sd of seed x factor", "table of levels", "analysis of variance")
    row(*["--:"] * 4)
    for seeds in (3, 5):
        for spread in (0.0, 0.1, 0.2, 0.3):
            counts = factorial_claims(seeds, spread, studies)
            row(seeds, spread, *(percent(count / studies) for count in counts))


def sequential(studies: int) -> None:
    """Print fixed numbers of seeds and the sequential rule side by side."""
    print(f"\n21 levels: 7 of no difference, 7 of 0.5, 7 of 1.0 points; negligible: 0.5; {studies}")
    row("scatter", "rule", "correct verdicts, %", "studies with a false claim, %", "trainings")
    row(*["---"] * 2, *["--:"] * 3)
    for scatter in PUBLISHED:
        for name, rule, sizes in (
            ("fixed", fixed, (13, 14, 15)),
            ("until sure, at most", until_sure, (14, 15, 16)),
        ):
            for seeds in sizes:
                outcome = rule(seeds, studies, scatter)
                row(
                    scatter,
                    f"{name} {seeds} seeds",
                    percent(outcome.correct),
                    percent(outcome.false),
                    f"{outcome.trainings:.0f}",
                )


TABLES = {"errors": errors, "power": powers, "factorials": factorials, "sequential": sequential}


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", help=f"of {', '.join(TABLES)}; all by default")
    parser.add_argument("--studies", type=int, default=100, help="simulated for each figure")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.tables if name not in TABLES]:
        parser.error(f"no such table: {unknown[0]}; there are {', '.join(TABLES)}")
    for name in arguments.tables or TABLES:
        TABLES[name](arguments.studies)


if __name__ == "__main__":
    main()
