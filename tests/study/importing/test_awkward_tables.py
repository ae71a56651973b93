"""Tables that people's tools and habits write: read right, or asked about, never a wrong number."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from study.importing import ImportedStudy, UnclearError, read_table
from tests.support.imports import study_of, table_of, values
from trainer.errors import UserError

ROWS = [
    (name, seed, 0.9 + 0.01 * (name == "sgd") + seed / 1000)
    for name in ("adam", "sgd")
    for seed in range(3)
]
FRAME = pd.DataFrame(ROWS, columns=["optimizer", "seed", "val_acc"])
ACCURACIES = [row[2] for row in ROWS]


def written(heading: str, cells: Sequence[Sequence[object]]) -> str:
    """Write a table of text."""
    return "\n".join([heading, *(",".join(map(str, row)) for row in cells)]) + "\n"


def seeds(made: ImportedStudy) -> list[int]:
    """Return every trial's seed."""
    return [trial.attributes["seed"] for trial in made.trials]


@pytest.mark.parametrize(
    ("names", "right"),
    [
        (("1.0", "2.0", "3.0"), [1, 2, 3]),  # pandas writes whole numbers so beside missing ones
        (("seed_a", "seed_b", "seed_c"), [0, 1, 2]),
        (("2718281828", "3141592653", "20240131"), [2718281828, 3141592653, 20240131]),
    ],
)
def test_seeds_in_any_form_pair_the_runs(names: tuple[str, ...], right: list[int]) -> None:
    text = written("optimizer,seed,val_acc", [(o, names[s], value) for o, s, value in ROWS])
    made = study_of(table_of(text))
    assert seeds(made) == right * 2
    assert made.uses["seed"] == "replicate seed"


def test_a_seed_that_a_run_lacks_pairs_nothing() -> None:
    text = written("lr,seed,val_acc", [(1, "a", 0.9), (1, "", 0.8), (2, "a", 0.7), (2, "b", 0.6)])
    made = study_of(table_of(text))
    assert seeds(made) == [0, 1, 2, 3]
    assert "as seed is empty in some rows" in made.notes[-1]


@pytest.mark.parametrize("heading", ["val_f1", "auc", "test_recall"])
def test_fractions_beside_percentages_of_any_share_are_refused(heading: str) -> None:
    cells = [(o, s, value if s else f"{100 * value:.1f}") for o, s, value in ROWS]
    with pytest.raises(UserError, match="is it a fraction or a percentage"):
        study_of(table_of(written(f"optimizer,seed,{heading}", cells)))


def test_errors_are_mixed_only_where_some_are_a_hundred_times_others() -> None:
    mixed = [(o, s, f"{(1 if s else 100) * (1 - value):.4f}") for o, s, value in ROWS]
    with pytest.raises(UserError, match="is it a fraction or a percentage"):
        study_of(table_of(written("optimizer,seed,val_error", mixed)))
    of_digits = [(o, s, 0.9 + s / 5) for o, s, _ in ROWS]  # per cent, of handwritten digits
    made = study_of(table_of(written("optimizer,seed,val_error", of_digits)))
    assert values(made)[:3] == [0.9, 1.1, 1.3]


def test_fractions_of_any_share_under_a_heading_in_per_cent_are_refused() -> None:
    with pytest.raises(UserError, match="the heading says per cent, but all cells are fractions"):
        study_of(table_of(written("optimizer,seed,f1 (%)", ROWS)))


def test_a_decimal_comma_that_may_be_thousands_is_named() -> None:
    text = "optimizer;seed;val_acc\nadam;0;90,125\nsgd;0;91,250\n"
    with pytest.raises(UserError, match="'90,125': a decimal comma, or thousands"):
        study_of(table_of(text))


@pytest.mark.parametrize(
    ("heading", "name", "better"),
    [
        ("1-acc", "1 minus accuracy", "lower"),
        ("one_minus_val_accuracy", "1 minus accuracy", "lower"),
        ("1-shot acc", "1 shot accuracy", "higher"),
    ],
)
def test_what_turns_a_measure_turns_its_direction(heading: str, name: str, better: str) -> None:
    figure = study_of(table_of(written(f"optimizer,seed,{heading}", ROWS))).plan["imported"][
        "figure"
    ]
    assert figure["name"].endswith(name)
    assert figure["better"] == better


@pytest.mark.parametrize("other", ["best_val_acc_epoch", "epoch_of_best_acc", "time_to_val_acc"])
def test_when_a_figure_was_reached_is_no_figure(other: str) -> None:
    cells = [(o, s, value, 10 + s) for o, s, value in ROWS]
    made = study_of(table_of(written(f"optimizer,seed,val_acc,{other}", cells)))
    assert values(made) == ACCURACIES
    assert "not used" in made.uses[other]


def test_how_much_a_figure_fell_is_no_factor() -> None:
    cells = [(o, s, value, value / 7) for o, s, value in ROWS]
    with pytest.raises(UnclearError, match="acc_drop: was it chosen or measured"):
        study_of(table_of(written("optimizer,seed,val_acc,acc_drop", cells)))


def test_a_test_accuracy_is_not_chosen_where_there_is_a_validation_figure() -> None:
    cells = [(o, s, value, 1 - value) for o, s, value in ROWS]
    made = study_of(table_of(written("optimizer,seed,test_acc,val_loss", cells)))
    assert made.plan["imported"]["metric"] == "val_loss"
    assert made.uses["test_acc"] == "test accuracy"


WIDE = {
    "val_acc_1,val_acc_2,val_acc_3": "or say --metric val_acc_1",
    "acc_seed0,acc_seed1,acc_seed2": "no column is known as a figure",
    "run1,run2,run3": "no column is known as a figure",
}


@pytest.mark.parametrize("heading", WIDE)
def test_runs_side_by_side_are_asked_about(heading: str) -> None:
    text = written(f"optimizer,{heading}", [("adam", 0.9, 0.91, 0.92), ("sgd", 0.8, 0.81, 0.82)])
    with pytest.raises(UnclearError, match="if these are runs of one setting") as asked:
        study_of(table_of(text))
    assert WIDE[heading] in str(asked.value)


def test_top_1_and_top_5_are_two_figures() -> None:
    made = study_of(table_of("model,acc1,acc5\na,0.8,0.95\nb,0.81,0.96\n"))
    assert made.plan["imported"]["metric"] == "acc1"


def test_days_are_no_factor_whatever_they_are_called() -> None:
    cells = [(f"2024-01-0{1 + s // 2}", o, s, value) for o, s, value in ROWS]
    made = study_of(table_of(written("day,optimizer,seed,val_acc", cells)))
    assert list(made.levels) == ["optimizer"]


def test_cells_that_look_merged_are_asked_about() -> None:
    cells = [("" if s else o, s, value) for o, s, value in ROWS]
    table = table_of(written("optimizer,seed,val_acc", cells))
    with pytest.raises(UnclearError, match="optimizer: is empty below each of its values"):
        study_of(table)
    assert study_of(table, factors=["optimizer"]).levels["optimizer"] == [None, "adam", "sgd"]


@pytest.mark.parametrize("word", ["Durchschnitt", "best", "std"])
def test_a_row_about_others_is_refused_by_the_seed_that_it_lacks(word: str) -> None:
    with pytest.raises(UserError, match=f"line 8: '{word}': is a summary of other rows"):
        study_of(table_of(written("optimizer,seed,val_acc", [*ROWS, (word, "", 0.9)])))


def test_max_and_avg_are_levels_too() -> None:
    cells = [("max", "", 0, 0.9), ("max", "", 1, 0.91), ("lp", 2, 0, 0.8), ("lp", 2, 1, 0.81)]
    made = study_of(table_of(written("pooling,norm,seed,val_acc", cells)))
    assert len(made.trials) == 4


def test_a_mean_by_its_name_counts_as_one_run_and_says_so() -> None:
    made = study_of(table_of("optimizer,mean_val_acc\nadam,0.9\nsgd,0.8\n"))
    assert any("mean_val_acc is a mean by its name" in note for note in made.notes)


def test_numbers_that_hardly_repeat_were_drawn_and_are_no_ablation() -> None:
    rates = [0.1 / (3 + number) for number in range(12)]
    cells = [(rate, "adam" if n % 2 else "sgd", 0.9 + n / 999) for n, rate in enumerate(rates)]
    made = study_of(table_of(written("lr,optimizer,val_acc", cells)))
    assert made.plan["design"] == "search"
    sweep = [(rate, "adam", 0.9 + n / 999) for n, rate in enumerate(rates)]
    assert study_of(table_of(written("lr,optimizer,val_acc", sweep))).plan["design"] == "ablation"


@pytest.mark.parametrize("orient", ["columns", "index", "records", "split", "table", "list"])
def test_json_of_pandas_is_the_same_table_in_every_orientation(orient: str, tmp_path: Path) -> None:
    path = tmp_path / "frame.json"
    if orient == "list":
        path.write_text(json.dumps(FRAME.to_dict("list")))
    else:
        FRAME.to_json(path, orient=orient, double_precision=15)
    made = study_of(read_table(path))
    assert values(made) == pytest.approx(ACCURACIES, abs=1e-12)
    assert seeds(made) == [0, 1, 2] * 2
    assert made.levels == {"optimizer": ["adam", "sgd"]}


def test_lists_that_may_be_epochs_are_one_run() -> None:
    history = {"loss": [1.0, 0.5], "val_accuracy": [0.8, 0.7], "lr": [0.1, 0.01]}
    assert values(study_of(table_of(json.dumps(history), "history.json"))) == [0.8]


def test_runs_by_name_may_lie_below_one_name() -> None:
    runs = {name: {"lr": rate, "val_acc": 0.9 + rate} for name, rate in (("a", 0.01), ("b", 0.02))}
    made = study_of(table_of(json.dumps({"runs": runs}), "runs.json"))
    assert values(made) == [0.91, 0.92]


def test_a_log_of_transformers_is_one_run_whatever_its_learning_rate() -> None:
    log = [
        {"epoch": 0.5, "loss": 0.7, "learning_rate": 1e-4, "step": 50},
        {"epoch": 1.0, "eval_accuracy": 0.8, "step": 100},
        {"epoch": 1.5, "loss": 0.4, "learning_rate": 5e-5, "step": 150},
        {"epoch": 2.0, "eval_accuracy": 0.9, "step": 200},
    ]
    made = study_of(table_of(json.dumps({"log_history": log}), "trainer_state.json"))
    assert values(made) == [0.9]
    assert made.kind == "Transformers' log"


def test_columns_may_be_separated_by_spaces(tmp_path: Path) -> None:
    made = study_of(table_of(FRAME.to_string(index=False) + "\n", "results.txt"))
    assert values(made) == pytest.approx(ACCURACIES)
    assert "columns are separated by spaces" in made.notes


def test_results_in_objects_have_their_split() -> None:
    records = [
        {"lr": lr, "seed": seed, "results": {"val": {"acc": 0.9}, "test": {"acc": 0.8}}}
        for lr in (0.1, 0.2)
        for seed in range(2)
    ]
    made = study_of(table_of(json.dumps(records), "results.json"))
    assert made.trials[0].attributes["test_accuracy"] == 0.8


def test_a_column_of_formulas_without_values_is_named(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["optimizer", "seed", "val_acc"])
    for name, seed, value in ROWS:
        book.active.append([name, seed, f"={value}+0"])
    book.save(tmp_path / "formulas.xlsx")
    with pytest.raises(UserError, match=re.escape("row 2: val_acc is empty")):
        study_of(read_table(tmp_path / "formulas.xlsx"))
