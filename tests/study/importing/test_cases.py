"""One small file of each kind that people have: read right, asked about, or refused by its name.

The files of `../shared/cases/imports` are read where they lie beside the checkout; the kinds that
matter most are written here too.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from study.importing import ImportedStudy, UnclearError, read_table
from study.importing.table import MAX_COLUMNS
from tests.support.imports import study_of, table_of, values
from trainer.errors import UserError

CASES = Path(__file__).parents[4] / "shared" / "cases" / "imports"


@dataclass(frozen=True)
class Right:
    """What a right reading gives."""

    design: str = "ablation"
    factors: str = ""  # names, in order
    runs: int = 0
    figure: str = "validation accuracy"
    better: str = "higher"
    first: float | None = None  # value of the first run
    says: str = ""  # in notes or uses
    seeds: tuple[int, ...] = ()  # of the first runs
    failed: int = 0
    given: dict[str, Any] = field(default_factory=dict)


def asks(words: str) -> str:
    return f"asks: {words}"


LOSS = Right("factorial", "activation dropout", 12, "validation loss", "lower", 0.2929)
NAMED = Right(runs=9, first=0.9, seeds=(1, 2, 3))
SMALL = Right(factors="lr", runs=2, first=0.91)
RIGHT: dict[str, Right | str] = {
    "A1_epochs_is_a_factor.csv": Right("factorial", "lr batch_size epochs", 18, first=0.7993),
    "A2_ofat_with_epochs.csv": Right(factors="lr bs epochs", runs=6, first=0.8805),
    "B1_metric_is_a_loss.csv": LOSS,
    "B2_metric_is_a_large_loss.csv": Right(
        "factorial", "activation dropout", 12, "perplexity", "lower", 21.18
    ),
    "B3_metric_is_cer.csv": Right("factorial", "activation dropout", 12, "CER", "lower", 0.0818),
    "B4_err_inside_a_word.csv": Right(
        "factorial", "activation dropout", 12, "terrain accuracy", first=0.913
    ),
    "B5_mean_squared_error.csv": Right(
        "factorial", "activation dropout", 12, "mean squared error", "lower", 26.147
    ),
    "B6_train_metric.csv": asks("only figures of training images"),
    "C1_other_figures.csv": Right("factorial", "activation dropout", 12, seeds=(1, 2, 3)),
    "C2_sklearn_cv_results.csv": Right(
        "factorial", "C kernel", 6, "validation score", first=0.872233, says="folds are not runs"
    ),
    "C3_row_numbers.csv": Right("factorial", "lr batch_size", 4, "accuracy", says="a row number"),
    "C4_method_column_dropped.csv": Right(
        factors="model", runs=6, figure="test accuracy", first=0.901, says="on test images"
    ),
    "C5_memory_and_size.csv": Right(factors="method & bn", runs=4, seeds=(1, 2, 1, 2)),
    "C6_factor_called_experiment.csv": NAMED,
    "C6_factor_called_name.csv": NAMED,
    "C6_factor_called_variant.csv": NAMED,
    "C7_factor_called_memory.csv": Right(factors="memory", runs=4, first=0.9),
    "D1_optuna_dataframe.csv": asks("nothing says whether more or less of it is better"),
    "D1b_optuna_without_number.csv": asks("say --metric value, or --metric value --lower"),
    "D2_optuna_two_objectives.csv": asks("values_0: nothing says"),
    "D3_prefixed_learning_rate.csv": Right("search", "lr optimizer batch_size", 12, first=0.9157),
    "D4_wandb_table.csv": Right(factors="lr optimizer", runs=9, first=0.915, failed=4),
    "D5_wandb_states.csv": Right(factors="lr optimizer", runs=9, first=0.915, failed=4),
    "D6_optuna_enum_states.csv": Right(factors="lr", runs=4, first=0.91, failed=1),
    "D7_states_of_others.csv": Right(factors="lr", runs=7, first=0.91, failed=3),
    "D8_prefixed_seed.csv": Right(factors="lr", runs=4, seeds=(1, 2, 1, 2)),
    "E1_lightning_metrics.csv": Right(runs=1, first=0.86, says="Lightning"),
    "E2_ray_result.json": Right("factorial", "lr momentum", 4, "accuracy", first=0.8989),
    "E3_step_log.csv": Right(runs=1, first=0.82),
    "F1_keras_names.csv": Right(factors="optimizer", runs=6, first=0.8965),
    "F2_mlflow_search_runs.csv": Right(factors="lr batch_size", runs=12, failed=1),
    "F3_train_acc_beside_test.csv": Right(
        factors="model", runs=6, figure="test accuracy", first=0.8697, seeds=(1, 2, 3, 1)
    ),
    "G1_error_percent_below_one.csv": Right(
        factors="model", runs=6, figure="test error", better="lower", first=0.4
    ),
    "G2_error_percent_around_one.csv": Right(
        factors="model", runs=6, figure="test error", better="lower", first=0.94, says="in %"
    ),
    "G3_chance_on_100_classes.csv": Right(factors="lr", runs=9, first=0.7149),
    "G4_fractions_under_percent.csv": "the heading says per cent, but all cells are fractions",
    "G5_plus_minus.csv": "is a mean and its spread",
    "G6_mean_std_n.csv": "each row is a summary of several runs",
    "H10_bom.csv": SMALL,
    "H11_column_twice.csv": "column 'learning rate' is there twice",
    "H12_trailing_comma_in_rows.csv": Right(factors="lr", runs=2, first=0.9),
    "H13_runs_key.json": Right(factors="lr", runs=2, first=0.9),
    "H14_dict_of_runs.json": Right(factors="name", runs=2, first=0.9),
    "H15_history_lists.json": Right(runs=1, first=0.9),
    "H16_list_of_epochs.json": Right(factors="lr", runs=2, first=0.9),
    "H17_nan_inf.csv": Right(runs=4, figure="accuracy", failed=3),
    "H18_mixed_percent.csv": "some cells have a % sign and this one has none",
    "H1_decimal_comma.csv": Right("factorial", "lr momentum", 4, first=0.8832),
    "H2_sep_line.csv": SMALL,
    "H3_comment_line.csv": SMALL,
    "H4_cp1252.csv": Right(factors="Größe", runs=2, first=0.91, says="Windows-1252"),
    "H5_space_after_comma.csv": SMALL,
    "H6_padded_quotes.csv": SMALL,
    "H7_markdown.md": Right(factors="lr", runs=2, first=0.912, says="Markdown"),
    "H8_no_heading.csv": "has no heading",
    "H9_utf16.csv": SMALL,
    "I1_same_level_twice.csv": Right(
        factors="optimizer weight_decay", runs=12, says="optimizer: ADAM, Adam, adam are one level"
    ),
    "I2_booleans.csv": Right(factors="bn & aug", runs=6, says="bn: 0, FALSE, False are one level"),
    "I3_lists.json": Right("factorial", "layers lr", 4, first=0.91),
    "I4_config_in_a_cell.csv": Right(factors="lr", runs=4, first=0.8954, seeds=(1, 2, 1, 2)),
    "J1_most_runs_is_not_best.csv": Right("search", "lr width dropout", 28, first=0.8005),
    "K1_loss_function.csv": Right("factorial", "model loss", 12, first=0.901),
    "K2_time_and_metric_columns.csv": Right(factors="model", runs=6, first=0.9003),
    "L1_metric_in_a_row.csv": Right(factors="model", runs=6, figure="accuracy", first=0.9039),
    "M1_failed_runs_without_settings.csv": Right("factorial", "lr batch_size", 5, failed=1),
    "N1_duplicated_rows.csv": Right(
        factors="lr", runs=2, says="4 rows equal others in every cell (line 4, line 6 of line 2"
    ),
    "O1_last_and_best.csv": Right(factors="lr", runs=6, first=0.93),
    "O1b_header_names_the_wrong_column.csv": Right(factors="lr", runs=6, first=0.86),
    "O2_final_and_best.csv": Right(factors="lr", runs=2, first=0.92),
    "P1_ten_thousand_rows.csv": Right("search", "lr width depth optimizer", 10_000),
    "P2_text_factor_with_many_levels.csv": Right("search", "model width", 700),
    "Q1_table.csv": Right("factorial", "bn lr bs", 8, first=0.9),
    "Q2_same_table_with_a_measured_column.csv": Right("factorial", "bn lr bs", 8, first=0.9),
}


def check(made: ImportedStudy, right: Right) -> None:
    plan, figure = made.plan, made.plan["imported"]["figure"]
    factors = plan["factors"] or plan.get("search", {}).get("space", {})
    assert plan["design"] == right.design, made.uses
    if right.factors:
        listed = right.factors.split(" ") if "&" not in right.factors else [right.factors]
        assert sorted(factors) == sorted(listed), made.uses
    assert (figure["name"], figure["better"]) == (right.figure, right.better)
    assert len(made.trials) == right.runs
    assert sum(trial.state == "FAIL" for trial in made.trials) == right.failed
    if right.first is not None:
        assert values(made)[0] == pytest.approx(right.first, abs=1e-12)
    seeds = tuple(trial.attributes["seed"] for trial in made.trials[: len(right.seeds)])
    assert seeds == right.seeds
    said = " ".join([made.kind, *made.notes, *made.uses.values()])
    assert right.says in said, said
    # The output names the column of every figure: it is the one that the study compares.
    (compared,) = [column for column, use in made.uses.items() if "this is what is compared" in use]
    assert compared == figure["column"] == plan["imported"]["metric"]


@pytest.mark.parametrize("name", RIGHT)
def test_a_file_of_each_kind_reads_as_it_should(name: str) -> None:
    path = CASES / name
    if not path.is_file():
        pytest.skip(f"no {CASES.name} beside the checkout")
    right = RIGHT[name]
    if isinstance(right, Right):
        check(study_of(read_table(path), **right.given), right)
    elif right.startswith("asks: "):
        with pytest.raises(UnclearError, match=re.escape(right.removeprefix("asks: "))):
            study_of(read_table(path))
    else:
        with pytest.raises(UserError, match=re.escape(right)):
            study_of(read_table(path))


def test_no_file_of_the_cases_is_left_out() -> None:
    if not CASES.is_dir():
        pytest.skip(f"no {CASES.name} beside the checkout")
    assert {own.name for own in CASES.iterdir()} - {"README.md"} == set(RIGHT)


CELLS = [("relu", 0.0), ("relu", 0.3), ("tanh", 0.0), ("tanh", 0.3)]


def grid(figure: str, unit: float = 1.0) -> str:
    """Write a 2 x 2 design with 3 seeds; the figure rises from cell to cell."""
    rows = [
        f"{a},{d},{seed},{unit * (1 + cell + seed / 10):g}\n"
        for cell, (a, d) in enumerate(CELLS)
        for seed in (1, 2, 3)
    ]
    return f"activation,dropout,seed,{figure}\n" + "".join(rows)


@pytest.mark.parametrize(
    ("heading", "figure", "better", "split"),
    [
        ("val_loss", "validation loss", "lower", "validation"),
        ("Perplexity", "perplexity", "lower", None),
        ("test_wer", "test WER", "lower", "test"),
        ("mean_squared_error", "mean squared error", "lower", None),
        ("neg_mean_squared_error", "negative mean squared error", "higher", None),
        ("rmse (val)", "validation root mean squared error", "lower", "validation"),
        ("val/macro_f1", "validation macro F1", "higher", "validation"),
        ("Test AUROC", "test AUC", "higher", "test"),
        ("best_valid_mIoU", "validation IoU", "higher", "validation"),
        ("episode_reward_mean", "reward", "higher", None),
        ("eval_bleu", "validation BLEU", "higher", "validation"),
    ],
)
def test_a_figure_keeps_its_name_value_and_direction(
    heading: str, figure: str, better: str, split: str | None
) -> None:
    made = study_of(table_of(grid(heading)))
    kept = made.plan["imported"]["figure"]
    assert (kept["name"], kept["better"], kept["split"]) == (figure, better, split)
    assert kept["accuracy"] is False
    assert values(made)[:4] == [1.1, 1.2, 1.3, 2.1]
    assert f"{figure}" in made.uses[heading]
    assert made.minimize == (better == "lower")


@pytest.mark.parametrize(
    ("heading", "cells", "unit", "first"),
    [
        ("val_acc", ("91.2", "1"), "percent", 0.912),
        ("val_acc (%)", ("0.92", "0.91"), "fraction", 0.92),
        ("val_acc (%)", ("0.92", "0.91"), "percent", 0.0092),
        ("test_error", ("0.92", "0.91"), "percent", 0.92),
    ],
)
def test_the_user_settles_a_unit(
    heading: str, cells: tuple[str, str], unit: str, first: float
) -> None:
    table = table_of(f"lr,{heading}\n0.1,{cells[0]}\n0.2,{cells[1]}\n")
    made = study_of(table, unit=unit)
    assert values(made)[0] == pytest.approx(first)
    assert (
        made.plan["imported"]["figure"]["unit"] == ("" if unit == "fraction" else "%")
        or (made.plan["imported"]["figure"]["accuracy"])
    )


ASKED: dict[str, tuple[str, dict[str, Any]]] = {  # what is unclear, and what settles it
    "model,test_f1,test_auc\na,0.8,0.9\nb,0.81,0.91\n": (
        "test_f1, test_auc", {"metric": "test_f1"}),
    "lr,objective\n0.1,3\n0.2,4\n": ("more or less", {"metric": "objective"}),
    "model,iteration,val_acc\n" + "".join(f"{m},{i},0.{7 + i}{n}\n" for n, m in enumerate("ab")
     for i in (1, 2, 3)): ("iteration: does it count", {"seed": "iteration"}),
    "epoch,lr,val_acc\n10,1,0.5\n20,1,0.6\n40,1,0.7\n10,2,0.5\n20,2,0.6\n40,2,0.8\n": (
        "epoch: does it count the rows", {"epoch": "epoch"}),
    "lr,center_loss,seed,val_acc\n1,0,1,0.9\n1,0,2,0.91\n1,1,1,0.8\n1,1,2,0.82\n": (
        "runs that agree in all settings and the seed", {"factors": ["center_loss", "lr"]}),
    "lr,sharpness,val_acc\n1,0.23,0.9\n2,0.35,0.91\n3,0.11,0.8\n": (
        "was it chosen or measured", {"ignore": ["sharpness"]}),
}  # fmt: skip


@pytest.mark.parametrize("text", ASKED)
def test_what_is_unclear_is_asked_and_the_named_option_settles_it(text: str) -> None:
    words, options = ASKED[text]
    with pytest.raises(UnclearError, match=re.escape(words)) as asked:
        study_of(table_of(text))
    option = next(iter(options))
    assert f"--{option}" in str(asked.value)
    assert asked.value.uses.keys() == set(table_of(text).columns)
    made = study_of(table_of(text), **options)
    assert made.trials


def test_failed_runs_define_no_level_and_no_baseline() -> None:
    text = (
        "status,lr,bs,val_acc\nFAILED,9,,\nkilled,0.5,32,0.1\nFINISHED,0.1,32,0.9\nok,0.1,64,0.91\n"
    )
    made = study_of(table_of(text))
    assert made.plan["factors"] == {"bs": [32, 64]}
    assert made.plan["baseline"] == {"lr": 0.1, "bs": 32}
    assert [trial.state for trial in made.trials] == ["FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    assert made.trials[1].attributes["figure"] == 0.1
    assert made.trials[1].attributes["config"]["lr"] == 0.5


def test_a_summary_row_is_refused() -> None:
    with pytest.raises(UserError, match="line 4: 'mean': is a summary of other rows"):
        study_of(table_of("model,seed,acc\na,1,0.9\na,2,0.91\nmean,,0.905\n"))


def test_copies_are_named_and_may_be_kept() -> None:
    text = "lr,acc\n1,0.9\n2,0.8\n1,0.9\n"
    made = study_of(table_of(text))
    assert len(made.trials) == 2
    assert made.notes[0].startswith("1 rows equal others in every cell (line 4 of line 2)")
    kept = study_of(table_of(text), keep_copies=True)
    assert len(kept.trials) == 3
    assert "as you said" in kept.notes[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"%PDF-1.4", "is a PDF file"),
        (b"\x1f\x8b\x08\x00", "is a gzip archive"),
        (b"\x89HDF\r\n", "is an HDF5 file"),
        (b"\x93NUMPY\x01\x00", "is a NumPy array"),
        (b"\x80\x04\x95", "is a Python pickle"),
        (b"\xd0\xcf\x11\xe0", "is an Excel file of before 2007"),
    ],
)
def test_what_cannot_be_read_is_named(content: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        table_of(content, "results.bin")


def test_a_kind_that_is_told_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("lr,acc\n1,0.9\n")
    with pytest.raises(UserError, match="is not an Optuna database, as --from optuna says"):
        read_table(path, "optuna")
    with pytest.raises(UserError, match="--from = 'x': choose from"):
        read_table(path, "x")


def test_more_columns_than_anybody_names_are_refused_in_a_line() -> None:
    names = [f"c{number}" for number in range(MAX_COLUMNS)]
    text = ",".join([*names, "val_acc"]) + "\n" + ",".join(["1"] * MAX_COLUMNS + ["0.9"]) + "\n"
    with pytest.raises(UserError, match=r": has 2,001 columns; at most 2,000 are read"):
        table_of(text)


def test_of_many_unclear_columns_a_message_asks_about_a_few() -> None:
    names = [f"c{number}" for number in range(40)]
    rows = [[f"{(row * 7 + column * 13) % 101 / 101}" for column in range(40)] for row in range(6)]
    lines = [",".join([*cells, f"0.9{row}"]) for row, cells in enumerate(rows)]
    with pytest.raises(UnclearError, match=r"; and \d+ further columns") as asked:
        study_of(table_of("\n".join([",".join([*names, "val_acc"]), *lines])))
    assert str(asked.value).count("was it chosen or measured") == 8
