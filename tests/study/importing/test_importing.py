"""Other people's results become a study: nothing lost, no figure changed, everything told."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hiplot
import optuna
import pytest
import sqlalchemy as sa
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import hiplot_page
from analysis.designs import results
from analysis.documents import render
from analysis.progress import progress
from analysis.statistics import effects
from analysis.trials import Study, Trial, connect, studies, trials
from study.importing import ImportedStudy, UnclearError, make_study, read_table, store
from study.plans.plan import Plan
from study.store import location, ownership
from study.store.writer import StudyWriter
from tests.support.imports import imported, stored, study_of, table_of, values
from tests.support.studies import POOLING, ablation_trials, database
from trainer.errors import UserError

FIXTURES = Path(__file__).with_name("fixtures")
FACTORIAL = FIXTURES / "invented-factorial.csv"


# What a file may be.


ROWS = [{"lr": 0.1, "val_accuracy": 0.9}, {"lr": 0.01, "val_accuracy": 0.95}]
TEXTS = {
    "a.csv": "lr,val_accuracy\n0.1,0.9\n0.01,0.95\n",
    "a.tsv": "lr\tval_accuracy\n0.1\t0.9\n0.01\t0.95\n",
    "semicolons.csv": "lr;val_accuracy\n0.1;0.9\n0.01;0.95\n",
    "a.txt": "lr,val_accuracy\r\n\r\n0.1 , 0.9\r\n0.01,0.95",
    "excel.csv": "\ufefflr,val_accuracy,\n0.1,0.9,\n0.01,0.95,\n",
    "pandas.csv": ",lr,val_accuracy\n0,0.1,0.9\n1,0.01,0.95\n",
    "list.json": json.dumps(ROWS),
    "results.json": json.dumps({"note": "ours", "results": ROWS}),
    "lines.jsonl": "\n".join(map(json.dumps, ROWS)) + "\n",
    "nested.json": json.dumps([{"config": {"lr": r["lr"]}, "val": {"accuracy": r["val_accuracy"]}}
                               for r in ROWS]),
    "hiplot.json": json.dumps(hiplot.Experiment.from_iterable(ROWS)._asdict()),
    "strings.json": json.dumps([{k: str(v) for k, v in row.items()} for row in ROWS]),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_every_kind_of_file_is_the_same_study(name: str, tmp_path: Path) -> None:
    made = imported(tmp_path / name, TEXTS[name])
    assert values(made) == [0.9, 0.95]
    assert [list(trial.params.values()) for trial in made.trials] == [[0.1], [0.01]]
    assert made.plan["design"] == "ablation"


def test_utf_16_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes("lr\tval_acc\n0.1\t0.9\n0.2\t0.8\n".encode("utf-16"))
    assert values(make_study(read_table(path), name="theirs")) == [0.9, 0.8]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "lr,acc\n", "holds no results"),
        ("a.csv", "lr,acc\n1,0.9\n2\n", "line 3: 1 cells, but the heading has 2"),
        ("a.csv", 'lr,acc\n"1,0.9\n', "line 2: unexpected end of data"),
        ("a.csv", 'lr,note,acc\n1,"a\nb",0.9\n2,c,x\n', "line 4: acc = 'x': must be a number"),
        ("a.csv", "lr,lr,acc\n1,2,0.9\n", "line 1: column 'lr' is there twice"),
        ("a.csv", "lr,,acc\n1,2,0.9\n", "line 1: column 2 has no name"),
        ("a.csv", "lr,acc\n1,0,9\n", "line 2: 3 cells"),
        ("a.csv", "lr;acc\n1;x,9\n", "line 2: acc = 'x,9': must be a number"),
        ("a.csv", f"{'x' * 201},acc\n1,0.9\n", "its name is longer than 200"),
        ("a.csv", "lr,speed\n1,2\n", "no column is known as a figure to compare"),
        (
            "a.csv",
            "lr,acc,accuracy\n1,0.9,0.8\n",
            "acc, accuracy could each be what is compared; say which: --metric acc",
        ),
        ("a.csv", "lr,acc\n1,1.9\n2,120\n", "line 3: acc = 120: must be a fraction from 0 to 1"),
        ("a.csv", "lr,acc\n1,-0.1\n", "line 2: acc = -0.1: must be a fraction"),
        ("a.csv", "lr,acc\n1,92.1\n2,0.93\n", "line 3: acc = 0.93: is it a fraction or a perc"),
        ("a.csv", "lr,acc\n1,92.1%\n2,93\n", "line 3: acc: some cells have a % sign"),
        (
            "a.csv",
            "lr,acc\n1,\n2,nan\n",
            "holds no run with a acc to compare (line 2: acc is empty",
        ),
        ("a.json", "[{]", "line 1: not JSON"),
        ("a.json", '[\n{"lr": 1,\n "lr": 2}]', "an object has 'lr' twice"),
        ("a.json", '[{"a": {"b": 1}, "a.b": 2}]', "record 1: has 'a.b' twice"),
        ("a.json", "[1]", "record 1: is no object"),
        ("a.json", "[]", "holds no results"),
        ("a.json", '{"a": 1}', "is JSON, but neither a list"),
        ("a.jsonl", '{"acc": 0.9}\n{"acc": 0.9\n', "line 2: not JSON"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", "[" + "9" * 5000 + "]", "not JSON"),
        ("a.json", '[{"acc": true}]', "no column is known as a figure"),
    ],
)
def test_a_malformed_file_is_refused_and_the_line_named(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        imported(tmp_path / name, text)
    assert message in str(error.value)
    assert str(tmp_path / name) in str(error.value) or f"file {name}: " in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(UserError, match="is a directory of no kind that is known"):
        read_table(tmp_path)
    (tmp_path / "binary.csv").write_bytes(b"lr,acc\n\x01\x8f,0.9\n")
    with pytest.raises(UserError, match="not text in UTF-8"):
        read_table(tmp_path / "binary.csv")


# What a column is.


def test_columns_are_known_by_their_usual_names(tmp_path: Path) -> None:
    made = imported(
        tmp_path,
        "Model,Batch Size,Val Acc (%),test-accuracy,train/loss,val_loss,Params,time_min,epochs,"
        "seed,uid,note,f1\n"
        'a,32,92.5,91%,0.1,0.3,"50,282",2,7,3,x1,good,0.9\n'
        'b,32,93,90.5 %,0.2,0.2,"50,282",1,7,3,x2,,0.8\n',
    )
    first = made.trials[0]
    assert (first.value, first.params) == (0.925, {"Model": "a"})
    assert first.attributes["test_accuracy"] == 0.91
    assert first.attributes["val_loss"] == 0.3
    assert first.attributes["history"] == [
        {
            "epoch": 7,
            "train_loss": 0.1,
            "val_loss": 0.3,
            "val_accuracy": 0.925,
            "test_accuracy": 0.91,
        }
    ]
    assert (first.attributes["parameters"], first.attributes["seconds"]) == (50_282, 120.0)
    assert first.attributes["seed"] == 3
    assert first.attributes["config"] == {"Model": "a", "Batch Size": 32, "epochs": 7}
    assert first.attributes["source"] == {
        "where": "line 2",
        "uid": "x1",
        "note": "good",
        "f1": "0.9",
    }
    assert made.uses == {
        "Model": "factor: a, b",
        "Batch Size": "constant: 32",
        "Val Acc (%)": "validation accuracy: this is what is compared (percentages, kept as "
        "fractions; higher is better)",
        "test-accuracy": "test accuracy",
        "train/loss": "training loss",
        "val_loss": "validation loss",
        "Params": "parameters",
        "time_min": "seconds (times 60)",
        "epochs": "constant: 7",
        "seed": "replicate seed",
        "uid": "names the run: kept with each trial, not used",
        "note": "kept with each trial, not used",
        "f1": "F1: kept with each trial, not used",
    }
    assert made.plan["imported"]["columns"] == made.uses


@pytest.mark.parametrize(
    ("heading", "cell", "value", "selected_on"),
    [
        ("val_accuracy", "0.9", 0.9, "validation"),
        ("validation accuracy", "90%", 0.9, "validation"),
        ("accuracy/val", "0.9", 0.9, "validation"),
        ("eval_acc", "0.9", 0.9, "validation"),
        ("best_val_acc", "0.9", 0.9, "validation"),
        ("val_error", "0.07", 0.07, "validation"),
        ("val_err_pct", "7", 7.0, "validation"),
        ("test_acc", "92.69", 0.9269, "test"),
        ("Test Error (%)", "7.31", 7.31, "test"),
        ("acc", "92.69", 0.9269, None),
        ("best_acc", "0.5", 0.5, None),
        ("acc [%]", "1.5", 0.015, None),
    ],
)
def test_the_compared_figure_keeps_its_value_and_its_images_are_known(
    heading: str, cell: str, value: float, selected_on: str | None, tmp_path: Path
) -> None:
    made = imported(tmp_path, f"a,{heading}\n1,{cell}\n2,{cell}\n")
    assert values(made) == [value, value]
    assert made.plan["imported"]["selected_on"] == selected_on
    assert made.plan["imported"]["metric"] == heading
    assert ("measured on test images" in " ".join(made.notes)) == (selected_on == "test")


def test_validation_accuracy_comes_before_any_other(tmp_path: Path) -> None:
    text = "a,test_acc,acc,val_acc,loss\n1,0.8,0.99,0.9,0.1\n2,0.85,0.98,0.91,0.2\n"
    made = imported(tmp_path, text)
    assert values(made) == [0.9, 0.91]
    # As Keras writes it, what has no split's name beside val_... is of the training images.
    assert made.trials[0].attributes["history"][0]["train_accuracy"] == 0.99
    assert made.trials[0].attributes["history"][0]["train_loss"] == 0.1
    chosen = imported(tmp_path, text, metric="test_acc")
    assert values(chosen) == [0.8, 0.85]
    assert chosen.plan["imported"]["selected_on"] == "test"


def test_any_column_may_be_named_as_the_metric(tmp_path: Path) -> None:
    made = imported(tmp_path, "a,score,acc\n1,50,0.9\n2,60,0.8\n", metric="score")
    assert values(made) == [50, 60]
    assert made.uses["acc"] == "accuracy: kept with each trial, not used"
    with pytest.raises(UserError, match="--metric = 'x': choose from a, score"):
        imported(tmp_path, "a,score\n1,50\n", metric="x")
    training = imported(tmp_path, "a,train_acc,val_acc\n1,0.9,0.8\n", metric="train_acc")
    assert "measured on training images" in training.notes[0]
    with pytest.raises(UserError, match="rank nothing; to compare one all the same"):
        imported(tmp_path, "a,train_acc\n1,0.9\n")


def test_only_named_columns_are_factors_if_they_are_named(tmp_path: Path) -> None:
    text = "a,b,c,acc\n1,5,x,0.9\n2,6,x,0.8\n1,7,x,0.7\n2,8,x,0.6\n"
    made = imported(tmp_path, text, factors=["a", "c"])
    assert made.plan["factors"] == {"a": [1, 2], "c": ["x"]}
    assert made.uses["b"] == "left out: not among --factors"
    with pytest.raises(UserError, match="--factors = 'z': choose from"):
        imported(tmp_path, text, factors=["z"])


@pytest.mark.parametrize(
    ("cells", "levels"),
    [
        (["true", "FALSE"], [False, True]),
        (["Yes", "no"], [False, True]),
        (["yes", "maybe"], ["yes", "maybe"]),
        (["1", "10", "9"], [1, 9, 10]),
        (["1", "0.5"], [0.5, 1.0]),
        (["1e-3", "1e-4"], [0.0001, 0.001]),
        (["007", "7"], ["007", "7"]),
        (["none", "0.1"], ["none", "0.1"]),
        (["", "0.1"], [None, 0.1]),
        (["max", "avg"], ["max", "avg"]),
        (["1e999", "1"], ["1e999", "1"]),
        (["12345678901234567", "1"], ["12345678901234567", "1"]),
    ],
)
def test_levels_are_read_as_one_kind_or_left_as_text(
    cells: list[str], levels: list[Any], tmp_path: Path
) -> None:
    rows = "".join(f"{cell},0.9\n" for cell in cells)
    made = imported(tmp_path, f"a,acc\n{rows}", factors=["a"])
    assert made.plan["factors"]["a"] == levels
    kinds = [type(level) for level in made.plan["factors"]["a"]]
    assert kinds == [type(level) for level in levels]


def test_mixed_kinds_of_json_are_told_apart_as_text(tmp_path: Path) -> None:
    rows = [{"a": True, "acc": 0.9}, {"a": 1, "acc": 0.8}, {"a": "1.5", "acc": 0.7}]
    made = imported(tmp_path / "a.json", json.dumps(rows))
    assert [trial.params["a"] for trial in made.trials] == ["true", "1", "1.5"]


def test_a_list_is_a_level_and_a_long_one_is_left_out_and_said(tmp_path: Path) -> None:
    rows = [
        {"width": 1, "acc": 0.9, "curve": [*range(99)], "layers": [8]},
        {"width": 2, "acc": 0.8, "layers": [8, 8]},
        {"width": 2, "acc": 0.8, "layers": [8]},
    ]
    made = imported(tmp_path / "a.json", json.dumps(rows))
    assert made.uses["curve"] == "left out: holds a long list"
    assert made.uses["layers"] == "factor: [8], [8, 8]"


def test_a_secondary_figure_that_is_no_number_is_kept_as_it_is(tmp_path: Path) -> None:
    made = imported(tmp_path, "a,acc,params\n1,0.9,6M\n2,0.8,7M\n")
    assert "line 2: params = '6M': must be a number" in made.uses["params"]
    assert made.trials[0].attributes["source"]["params"] == "6M"


# Which design it is.


def test_all_combinations_equally_often_are_a_factorial() -> None:
    made = make_study(read_table(FACTORIAL), name="theirs", dataset="fashion-mnist")
    assert made.plan["design"] == "factorial"
    assert made.plan["factors"] == {
        "batchnorm": [False, True],
        "dropout": [False, True],
        "pooling": ["avg", "max"],
        "batch_size": [32, 64, 128],
    }
    assert made.summary == "factorial, 24 settings, 24 runs"
    assert made.plan["seeds"] == 1
    assert {trial.attributes["seed"] for trial in made.trials} == {0}


def test_an_imported_factorial_has_the_effects_of_a_linear_model(tmp_path: Path) -> None:
    study, rows = stored(make_study(read_table(FACTORIAL), name="theirs"), tmp_path)
    found = {
        (own.factor, own.level): own.delta for own in effects.ablation(study.plan, rows).effects
    }
    terms = list(found)
    design = [[1.0, *(float(row.params[f] == level) for f, level in terms)] for row in rows]
    model = sm.OLS([row.value for row in rows], design).fit()
    assert len(found) == 5
    for delta, coefficient in zip(found.values(), model.params[1:], strict=True):
        assert delta == pytest.approx(coefficient, abs=1e-8)


ABLATION = (
    "lr,bn,width,val_acc\n0.1,yes,32,0.9\n0.1,yes,32,0.91\n0.01,yes,32,0.8\n"
    "0.1,no,32,0.85\n0.1,yes,64,0.92\n"
)


def test_rows_around_one_baseline_are_an_ablation(tmp_path: Path) -> None:
    made = imported(tmp_path, ABLATION)
    assert made.plan["design"] == "ablation"
    assert made.plan["baseline"] == {"lr": 0.1, "bn": True, "width": 32}
    assert [trial.attributes["variant"] for trial in made.trials] == [
        "baseline", "baseline", "lr=0.01", "bn=false", "width=64",
    ]  # fmt: skip
    study, rows = stored(made, tmp_path)
    deltas = {own.factor: own.delta for own in effects.ablation(study.plan, rows).effects}
    assert deltas == pytest.approx({"lr": -0.105, "bn": -0.055, "width": 0.015})


def test_a_row_off_the_axes_of_an_ablation_is_listed(tmp_path: Path) -> None:
    made = imported(tmp_path, ABLATION + "0.01,yes,64,0.7\n")
    changes = {"lr": 0.01, "width": 64}
    assert made.plan["variants"] == [
        {"factor": "lr + width", "level": "0.01 + 64", "changes": changes}
    ]
    # A level that is there with others alone is no level of its factor.
    wide = imported(tmp_path, ABLATION + "0.1,no,16,0.7\n")
    assert wide.plan["factors"]["width"] == [32, 64]
    assert wide.levels["width"] == [16, 32, 64]
    study, rows = stored(made, tmp_path)
    listed = effects.ablation(study.plan, rows).effects[-1]
    assert (listed.factor, listed.n) == ("lr + width", 1)
    assert listed.delta == pytest.approx(-0.205)


def test_other_tables_are_kept_without_a_design(tmp_path: Path) -> None:
    rows = "".join(
        f"{0.001 * 1.7**i:.6f},{32 * (i % 3 + 1)},{'sgd' if i % 2 else 'adam'},0.{80 + i}\n"
        for i in range(12)
    )
    made = imported(tmp_path, f"lr,width,optimizer,val_acc\n{rows}")
    assert made.plan["design"] == "search"
    assert made.plan["search"]["space"]["optimizer"] == ["adam", "sgd"]
    assert made.plan["search"]["space"]["lr"] == {"low": 0.001, "high": 0.342719, "log": True}
    assert "no design found" in made.notes[0]
    study, found = stored(made, tmp_path)
    table = results(study, found).table.as_dict()
    assert (table["best"]["val_accuracy_mean"], table["best"]["candidate"]) == (0.91, 11)
    assert table["importance"]["parameters"]


def test_columns_that_change_only_together_are_one_factor(tmp_path: Path) -> None:
    text = "optimizer,shuffle,acc\nadam,no,0.93\nadam,no,0.931\nsgd,yes,0.92\nsgd,yes,0.925\n"
    made = imported(tmp_path, text)
    assert made.plan["factors"] == {"optimizer & shuffle": ["adam & false", "sgd & true"]}
    assert made.plan["imported"]["merged"] == {"optimizer & shuffle": ["optimizer", "shuffle"]}
    assert made.uses["shuffle"] == "factor: false, true; changes only together with optimizer"
    assert made.trials[2].attributes["config"] == {"optimizer": "sgd", "shuffle": True}
    # Two columns that cross are two factors.
    crossed = imported(tmp_path, text + "adam,yes,0.9\nadam,yes,0.91\nsgd,no,0.9\nsgd,no,0.91\n")
    assert (crossed.plan["design"], list(crossed.plan["factors"])) == (
        "factorial", ["optimizer", "shuffle"],
    )  # fmt: skip


def test_a_column_that_may_be_measured_is_asked_about(tmp_path: Path) -> None:
    rows = "".join(
        f"{bn},{pool},{0.1 + 0.01 * i:.2f},0.9{i}\n"
        for i, (bn, pool) in enumerate((b, p) for b in "01" for p in ("max", "avg", "l2"))
    )
    text = f"bn,pool,sharpness,acc\n{rows}"
    with pytest.raises(UnclearError, match="sharpness: was it chosen or measured") as asked:
        imported(tmp_path, text)
    assert asked.value.uses["pool"] == "factor: max, avg, l2"
    made = imported(tmp_path, text, ignore=["sharpness"])
    assert made.plan["design"] == "factorial"
    assert list(made.plan["factors"]) == ["bn", "pool"]
    assert made.trials[1].attributes["source"]["sharpness"] == "0.11"
    chosen = imported(tmp_path, text, factors=["bn", "pool", "sharpness"])
    assert "sharpness" in chosen.plan["search"]["space"]


def test_one_setting_alone_is_a_baseline(tmp_path: Path) -> None:
    made = imported(tmp_path, "lr,seed,acc\n0.1,0,0.9\n0.1,1,0.91\n")
    assert made.summary == "ablation, 1 setting, 2 runs"
    assert made.plan["baseline"] == {"lr": 0.1}
    study, rows = stored(made, tmp_path)
    assert "no factor is varied" in render(results(study, rows).table, "text")


# Replicates and epochs.


def test_seeds_of_the_file_pair_the_runs(tmp_path: Path) -> None:
    text = "lr,run,val_acc\n1,1,0.9\n1,2,0.91\n1,3,0.93\n2,1,0.8\n2,2,0.81\n2,3,0.84\n"
    made = imported(tmp_path, text)
    assert [trial.attributes["seed"] for trial in made.trials] == [1, 2, 3, 1, 2, 3]
    study, rows = stored(made, tmp_path)
    (effect,) = effects.ablation(study.plan, rows).effects
    assert (effect.paired, effect.compared) == (True, 3)


def test_numbers_of_ours_pair_nothing(tmp_path: Path) -> None:
    rows = "".join(f"{lr},0.{80 + i + 3 * lr}\n" for lr in (1, 2) for i in range(3))
    made = imported(tmp_path, f"lr,val_acc\n{rows}")
    assert [trial.attributes["seed"] for trial in made.trials] == [0, 1, 2, 3, 4, 5]
    assert "replicates are numbered in the file's order" in made.notes[-1]
    study, found = stored(made, tmp_path)
    (effect,) = effects.ablation(study.plan, found).effects
    assert (effect.paired, effect.n) == (False, 3)


def test_a_number_of_all_runs_is_no_seed(tmp_path: Path) -> None:
    made = imported(tmp_path, "run,lr,val_acc\n1,1,0.9\n2,2,0.91\n3,3,0.93\n")
    assert [trial.attributes["seed"] for trial in made.trials] == [0, 0, 0]
    assert made.uses["run"] == "kept with each trial, not used"


def test_the_same_seed_twice_loses_no_run(tmp_path: Path) -> None:
    made = imported(tmp_path, "lr,seed,val_acc\n1,0,0.9\n1,0,0.91\n2,0,0.93\n2,0,0.94\n")
    assert len({(t.attributes["variant"], t.attributes["seed"]) for t in made.trials}) == 4
    assert "seed is not a number of its own for each run" in made.notes[-1]


LOG = "lr,seed,epoch,lr_now,loss,val_acc,test_acc,time\n" + "".join(
    f"{lr},{seed},{epoch},{lr / (1 + epoch):.4f},{1 / (1 + epoch):.3f},"
    f"{0.5 + 0.1 * min(epoch, 3 - epoch) + 0.01 * seed:.3f},{0.4 + 0.1 * epoch:.3f},2.5\n"
    for lr in (1, 2)
    for seed in (0, 1)
    for epoch in range(4)
)


def test_rows_per_epoch_become_histories(tmp_path: Path) -> None:
    made = imported(tmp_path, LOG)
    assert len(made.trials) == 4
    first = made.trials[0]
    assert dict(first.steps) == {1: 0.5, 2: 0.6, 3: 0.6, 4: 0.5}
    assert (first.value, first.attributes["best_epoch"]) == (0.6, 2)
    assert first.attributes["test_accuracy"] == 0.5  # of that epoch, not their best
    assert first.attributes["seconds"] == 10.0
    assert first.attributes["config"]["epochs"] == 4
    assert [own["train_loss"] for own in first.attributes["history"]] == [1.0, 0.5, 0.333, 0.25]
    assert made.uses["lr_now"] == "left out: changes within a run"
    assert made.plan["epochs"] == 4
    study, rows = stored(made, tmp_path)
    assert rows[0].intermediate == dict(first.steps)
    assert effects.ablation(study.plan, rows).effects[0].compared == 2


def test_interleaved_runs_are_told_apart_by_their_settings(tmp_path: Path) -> None:
    rows = [f"{lr},{epoch},0.{50 + 10 * lr + epoch}\n" for epoch in (1, 2, 3) for lr in (1, 2)]
    made = imported(tmp_path, "lr,epoch,val_acc\n" + "".join(rows))
    assert [dict(trial.steps) for trial in made.trials] == [
        {1: 0.61, 2: 0.62, 3: 0.63},
        {1: 0.71, 2: 0.72, 3: 0.73},
    ]


def test_test_figures_choose_no_epoch(tmp_path: Path) -> None:
    made = imported(
        tmp_path, "lr,epoch,test_acc\n1,1,0.8\n1,2,0.95\n1,3,0.9\n2,1,0.7\n2,2,0.8\n2,3,0.6\n"
    )
    assert values(made) == [0.9, 0.6]  # the last, not the best


def test_one_row_per_run_may_tell_its_epochs(tmp_path: Path) -> None:
    made = imported(tmp_path, "lr,epoch,val_acc\n1,14,0.9\n2,9,0.8\n3,11,0.8\n")
    assert [trial.attributes["config"]["epochs"] for trial in made.trials] == [14, 9, 11]
    assert made.uses["epoch"] == "epochs trained"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1,1,0.5\n1,2,0.6\n1,3,0.6\n2,2,0.5\n2,3,0.5\n2,4,0.5\n", "line 5: a run begins with"),
        ("1,1,0.5\n1,2,0.6\n1,3,0.6\n1,,0.5\n", "line 5: epoch is empty"),
    ],
)
def test_torn_histories_are_refused(rows: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        imported(tmp_path, f"lr,epoch,val_acc\n{rows}")


# Nothing is lost.


def test_rows_without_a_figure_are_failed_trials_with_a_reason(tmp_path: Path) -> None:
    text = "lr,status,val_acc\n1,done,0.9\n2,done,\n3,done,nan\n4,crashed,0.1\n5,pruned,0.3\n"
    made = imported(tmp_path, text)
    study, rows = stored(made, tmp_path)
    assert [(row.state, row.value) for row in rows] == [
        ("COMPLETE", 0.9), ("FAIL", None), ("FAIL", None), ("FAIL", None), ("PRUNED", 0.3),
    ]  # fmt: skip
    assert [row.failure_reason for row in rows[1:4]] == [
        "line 3: val_acc is empty", "line 4: val_acc is 'nan'", "line 5: status is 'crashed'",
    ]  # fmt: skip
    assert made.trials[3].attributes["figure"] == 0.1
    assert "3 runs that did not finish, or without a figure, count nowhere" in " ".join(made.notes)
    assert study.trial_count == 5


def test_the_study_is_read_by_report_status_hiplot_and_optuna(tmp_path: Path) -> None:
    made = make_study(read_table(FACTORIAL), name="their/cells", dataset="fashion-mnist")
    study, rows = stored(made, tmp_path)
    assert study.dataset == {"name": "fashion-mnist", "test_images": 10_000}
    now = progress(study, rows)
    assert now.best is not None
    assert now.best.mean == max(row.value or 0 for row in rows)
    assert "batch_size" in render(results(study, rows).table, "markdown")
    page = hiplot_page.write(study, rows, tmp_path / "page.html")
    assert "invented" not in page.read_text(encoding="utf-8")
    url = sa.URL.create("sqlite", database=str(tmp_path / "studies.db")).render_as_string()
    theirs = optuna.load_study(study_name="their/cells", storage=url)
    assert theirs.best_value == now.best.mean
    assert theirs.best_params["batch_size"] in (32, 64, 128)


@pytest.mark.parametrize(
    ("column", "words", "axis"),
    [
        ("val_acc", "Validation accuracy in %", "val_accuracy"),
        ("test_acc", "Test accuracy in %", "accuracy"),
        ("acc", "Accuracy in %", "accuracy"),
    ],
)
def test_the_report_says_which_accuracy_is_compared(
    column: str, words: str, axis: str, tmp_path: Path
) -> None:
    text = f"lr,seed,{column}\n1,0,0.9\n1,1,0.8\n2,0,0.7\n2,1,0.75\n"
    study, rows = stored(imported(tmp_path, text), tmp_path)
    table = render(results(study, rows).table, "text")
    assert f"\n{words}\n" in table
    assert f"imported from results.csv; compared is {column}," in table
    assert "planned" not in table
    assert progress(study, rows).objective == study.compared
    assert {row.test_accuracy for row in rows} == {None}  # none was looked at once
    page = hiplot_page.experiment(study, rows)
    assert page.colorby == axis
    assert [own.values[axis] for own in page.datapoints] == [0.9, 0.8, 0.7, 0.75]
    assert page.parameters_definition[axis].type == hiplot.ValueType.NUMERIC


def test_our_own_page_s_experiment_comes_back_as_the_same_study(tmp_path: Path) -> None:
    accuracies = {
        "baseline": (0.9, 0.91, 0.93),
        "pooling=avg": (0.8, 0.82, 0.83),
        "batchnorm=false": (0.91, 0.92, 0.95),
    }
    url = database(tmp_path, ablation_trials(POOLING, accuracies), of=POOLING)
    engine = connect(url)
    (own,) = studies(engine)
    ours = trials(engine, own.id)
    page = json.dumps(hiplot_page.experiment(own, ours)._asdict())
    made = imported(tmp_path / "page.json", page)
    assert made.plan["design"] == "ablation"
    (tmp_path / "other").mkdir()
    study, rows = stored(made, tmp_path / "other")

    def told(found: Study, own_rows: Sequence[Trial]) -> set[tuple[Any, ...]]:
        rows = effects.ablation(found.plan, own_rows).effects
        return {(e.factor, e.level, e.delta, e.p_value, e.n, e.parameters) for e in rows}

    assert told(study, rows) == told(own, ours)


# It is stored whole or not at all.


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    made = imported(tmp_path, ABLATION)
    stored(made, tmp_path)
    with pytest.raises(UserError, match="--study-name = 'theirs': is taken"):
        stored(made, tmp_path)
    with pytest.raises(UserError, match="--study-name"):
        imported(tmp_path, ABLATION, name="../theirs")


def test_a_refused_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = imported(tmp_path, ABLATION)

    def full(*_: object) -> None:
        raise sa.exc.OperationalError("INSERT", {}, Exception("database or disk is full"))

    monkeypatch.setattr(StudyWriter, "_end", full)
    with pytest.raises(UserError, match=r"nothing written: .*disk is full"):
        stored(made, tmp_path)
    assert studies(connect(location.locate(str(tmp_path / "studies.db")))) == []
    monkeypatch.undo()
    assert stored(made, tmp_path)[0].trial_count == 5


def test_a_database_in_use_is_refused(tmp_path: Path) -> None:
    url = location.locate(str(tmp_path / "studies.db"))
    with ownership.take(url, "someone"), pytest.raises(UserError, match="is in use"):
        store(imported(tmp_path, ABLATION), url, "import")


def test_an_imported_study_is_refused_by_run(tmp_path: Path) -> None:
    study, _ = stored(imported(tmp_path, ABLATION), tmp_path)
    with pytest.raises(UserError, match="'theirs': was imported"):
        Plan.from_dict(study.plan)


def test_two_settings_never_share_a_name(tmp_path: Path) -> None:
    text = "a,b,acc\nx,y,0.1\nx b=z,y,0.2\nx,z,0.3\nx b=z,z,0.4\n"
    made = imported(tmp_path, text)
    assert len({trial.attributes["variant"] for trial in made.trials}) == 4
    odd = imported(
        tmp_path, "a,b,acc\nq,y,0.1\nx b=z,y,0.2\nx,z,0.3\nq,z,0.4\nx,y,0.1\nx b=z,z,0\n"
    )
    assert len({trial.attributes["variant"] for trial in odd.trials}) == 6


# Parsers against anything.

NAMES = st.sampled_from(
    ["acc", "val_acc", "test_err", "loss", "lr", "epoch", "seed", "run", "status", "a", "b", "π"]
)
CELLS = st.one_of(
    st.text(alphabet=st.characters(codec="utf-8"), max_size=6),
    st.floats().map(repr),
    st.integers(-3, 120).map(str),
    st.sampled_from(["", "nan", "yes", "no", "92.5%", "0.925", "true", "none", "1"]),
)


@settings(deadline=None)  # a file is written and read
@given(st.lists(NAMES, min_size=1, max_size=5, unique=True), st.data())
def test_no_table_crashes_the_import(columns: list[str], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.lists(CELLS, min_size=len(columns), max_size=len(columns))))
    out = io.StringIO()
    csv.writer(out).writerows([columns, *rows])
    _import_text(out.getvalue(), ".csv")


@settings(deadline=None)  # a file is written and read
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
        max_leaves=20,
    )
)
def test_no_json_crashes_the_import(value: Any) -> None:
    _import_text(json.dumps(value), ".json")
    if isinstance(value, list):
        _import_text("\n".join(map(json.dumps, value)), ".jsonl")


@settings(deadline=None)  # a file is written and read
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_no_text_crashes_the_import(text: str) -> None:
    for suffix in (".csv", ".tsv", ".json", ".txt"):
        _import_text(text, suffix)


def _import_text(text: str, suffix: str) -> ImportedStudy | None:
    try:
        made = study_of(table_of(text, f"results{suffix}"), keep_copies=True)
    except UserError:
        return None
    json.dumps(made.plan, allow_nan=False)
    accuracy = made.plan["imported"]["figure"]["accuracy"]
    for trial in made.trials:
        json.dumps(trial.attributes)
        assert trial.value is None or math.isfinite(trial.value)
        assert trial.value is None or not accuracy or 0 <= trial.value <= 1
        assert (trial.value is None) == (trial.state == "FAIL")
        assert ("failure_reason" in trial.attributes) == (trial.state == "FAIL")
    return made


@settings(deadline=None)  # a file is written and read
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30), st.booleans())
def test_no_figure_is_changed(millionths: list[int], percent: bool) -> None:
    digits = [f"{n // 10**4}.{n % 10**4:04}" if percent else f"{n / 10**6:.6f}" for n in millionths]
    rows = "".join(f"{i},{own}{'%' if percent else ''}\n" for i, own in enumerate(digits))
    made = _import_text(f"lr,val_acc\n{rows}", ".csv")
    assert made is not None
    assert values(made) == [float(f"{n}e-6") for n in millionths]


@settings(deadline=None)  # a file is written and read
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "lr": st.floats(1e-6, 1, allow_nan=False),
                "width": st.integers(1, 512),
                "bn": st.booleans(),
                "pool": st.sampled_from(["max", "avg"]),
                "val_accuracy": st.floats(0, 1),
                "val_loss": st.floats(0, 10),
            }
        ),
        min_size=1,
        max_size=12,
    )
)
def test_json_figures_and_levels_come_back_as_they_are(rows: list[Mapping[str, Any]]) -> None:
    made = _import_text(json.dumps(rows), ".json")
    assert made is not None
    for row, trial in zip(rows, made.trials, strict=True):
        assert trial.value == row["val_accuracy"]
        assert trial.attributes["val_loss"] == row["val_loss"]
        config = trial.attributes["config"]
        assert config == {name: row[name] for name in config}
        assert {"lr", "width", "bn", "pool"} == config.keys()
