"""Does searching well pay? Two comparisons, each repeated with other sampler seeds.

    python benchmarks/search.py pruning                     # digits, a few minutes
    python benchmarks/search.py budget --data-dir DIR       # real Fashion-MNIST, 10,000 images

`pruning`: the catalogue's search with 60 trials, with its pruner and without, same sampler
seeds: the share of trials pruned, the epochs spent, the best validation accuracy.
`budget`: TPE with Hyperband against random search without pruning, the same budget of epochs.

Every search runs through the command line, as a user's would, into a database of its own.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parent.parent)  # not this folder: here `study` is a script

import argparse
import json
import statistics
import subprocess
import tempfile
from typing import Any

from analysis.trials import connect, studies, trials
from study.plans.plan import load_plan

# Small and quick networks: what varies is how they are trained.
BUDGET_SPACE = {
    "batchnorm": [True, False],
    "pooling": ["max", "avg"],
    "dropout": {"low": 0.0, "high": 0.6},
    "batch_size": [32, 64, 128, 256],
    "optimizer": ["adam", "adamw", "sgd"],
    "momentum": {"low": 0.0, "high": 0.98, "when": {"optimizer": ["sgd"]}},
    "learning_rate": {"low": 1e-4, "high": 3e-1, "log": True},
    "schedule": ["one-cycle", "cosine", "step", "constant"],
    "label_smoothing": [0.0, 0.1],
    "augmentation": ["none", "flip", "erase", "translate", "flip+erase", "flip+translate"],
}


def search(folder: Path, plan: dict[str, Any], options: list[str]) -> dict[str, float]:
    """Run one search; return what came of it."""
    path = folder / "plan.toml"
    path.write_text(to_toml(plan), encoding="utf-8")
    database = folder / "studies.db"
    command = [sys.executable, "-m", "study.cli", "run", str(path), "--storage", str(database)]
    subprocess.run([*command, "--quiet", "--json", *options], check=True, stdout=subprocess.DEVNULL)
    engine = connect(f"sqlite:///{database}")
    rows = trials(engine, studies(engine)[0].id)
    complete = [row for row in rows if row.state == "COMPLETE" and row.value is not None]
    best = max(complete, key=lambda row: row.value or 0.0)
    return {
        "trials": len(rows),
        "pruned": sum(row.state == "PRUNED" for row in rows) / len(rows),
        "epochs": sum(row.epochs for row in rows),
        "best": best.value or 0.0,
        "test": best.test_accuracy or 0.0,
    }


def to_toml(values: dict[str, Any]) -> str:
    """Write a plan as TOML."""

    def inline(value: Any) -> str:
        if isinstance(value, dict):
            return "{ " + ", ".join(f"{k} = {inline(v)}" for k, v in value.items()) + " }"
        if isinstance(value, list):
            return "[" + ", ".join(map(inline, value)) + "]"
        return json.dumps(value)  # strings, numbers, true and false are written alike

    return "".join(f"{k} = {inline(v)}\n" for k, v in values.items() if v is not None)


def compare(arms: dict[str, dict[str, Any]], repeats: int, options: list[str]) -> None:
    """Run every arm with every sampler seed; print as it goes, then the summary."""
    outcomes: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    print(f"{'repeat':6}  {'search':20}  trials  pruned  epochs  best val  its test", flush=True)
    for repeat in range(repeats):
        for name, plan in arms.items():
            table = {**plan["search"], "sampler_seed": 1000 * (repeat + 1)}
            with tempfile.TemporaryDirectory() as folder:
                figures = search(Path(folder), {**plan, "search": table}, options)
            outcomes[name].append(figures)
            print(
                f"{repeat:6}  {name:20}  {figures['trials']:6.0f}  {figures['pruned']:6.0%}  "
                f"{figures['epochs']:6.0f}  {figures['best']:8.2%}  {figures['test']:8.2%}",
                flush=True,
            )
    print()
    for name, rows in outcomes.items():
        median = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        best = [row["best"] for row in rows]
        spread = f" ± {statistics.stdev(best):.2%}" if repeats > 1 else ""
        print(
            f"{name}: best, median {median['best']:.2%}, mean {statistics.fmean(best):.2%}{spread}"
            f"; test of the winner, median {median['test']:.2%}; {median['pruned']:.0%} pruned, "
            f"{median['epochs']:.0f} epochs"
        )
    first, second = outcomes.values()
    wins = sum(a["best"] > b["best"] for a, b in zip(first, second, strict=True))
    ratio = sum(row["epochs"] for row in first) / sum(row["epochs"] for row in second)
    names = list(outcomes)
    print(f"{names[0]} ahead in {wins} of {repeats}; epochs, {names[0]} / {names[1]}: {ratio:.2f}")


def main() -> None:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=("pruning", "budget"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--epoch-budget", type=int, default=90)
    parser.add_argument("--data-dir")
    args = parser.parse_args()
    options = ["--data-dir", args.data_dir] if args.data_dir else []
    if args.part == "pruning":
        plan = load_plan("search", dataset="digits").override(trials=args.trials, seeds=1).to_dict()
        arms = {
            f"tpe + {plan['search']['pruner']}": plan,
            "tpe, no pruning": {**plan, "search": {**plan["search"], "pruner": "none"}},
        }
    else:
        common = {"design": "search", "seeds": 1, "epochs": 9, "subset": 10_000}
        common |= {"name": "budget", "dataset": "fashion-mnist", "baseline": {"width": 16}}
        table = {"trials": 1000, "epoch_budget": args.epoch_budget, "space": BUDGET_SPACE}
        rules = {
            "tpe + hyperband": {"sampler": "tpe", "pruner": "hyperband"},
            "random, no pruning": {"sampler": "random", "pruner": "none"},
        }
        arms = {name: {**common, "search": {**table, **rule}} for name, rule in rules.items()}
    compare(arms, args.repeats, options)


if __name__ == "__main__":
    main()
