"""Round trips: what the real libraries write is read with every mean, n, state and best theirs."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import optuna
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from study.importing import ImportedStudy, UnclearError, read_table
from tests.support.imports import study_of
from trainer.errors import UserError

ROWS = pd.DataFrame(
    {
        "lr": [0.1, 0.1, 0.01, 0.01, 0.1],
        "optimizer": ["adam", "adam", "adam", "adam", "sgd"],
        "seed": [1, 2, 1, 2, 1],
        "val_accuracy": [0.9, 0.91, 0.93, 0.95, 0.85],
    }
)


def groups(made: ImportedStudy, *settings: str) -> dict[Any, tuple[int, float]]:
    """Return n and the mean of the finished trials of each setting."""
    rows = [
        {**{name: trial.attributes["config"].get(name) for name in settings}, "value": trial.value}
        for trial in made.trials
        if trial.state == "COMPLETE"
    ]
    found = pd.DataFrame(rows).groupby(list(settings))["value"].agg(["size", "mean"])
    return {index: (int(row["size"]), row["mean"]) for index, row in found.iterrows()}


def expected(frame: pd.DataFrame, value: str, *settings: str) -> dict[Any, Any]:
    found = frame.groupby(list(settings))[value].agg(["size", "mean"])
    return {
        index: (int(row["size"]), pytest.approx(row["mean"])) for index, row in found.iterrows()
    }


def csv_table(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path)


def excel(frame: pd.DataFrame, path: Path) -> None:
    pytest.importorskip("openpyxl")
    frame.to_excel(path)


def parquet(frame: pd.DataFrame, path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame.to_parquet(path)


def markdown(frame: pd.DataFrame, path: Path) -> None:
    lines = [" | ".join(map(str, row)) for row in frame.itertuples(index=False)]
    heading = " | ".join(frame.columns)
    rule = " | ".join("---" for _ in frame.columns)
    path.write_text("\n".join(["# Results", "", heading, rule, *lines, ""]))


def json_records(frame: pd.DataFrame, path: Path) -> None:
    frame.to_json(path, orient="records")


WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "a.csv": csv_table, "a.xlsx": excel, "a.parquet": parquet, "a.md": markdown,
    "a.json": json_records,
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_a_data_frame_comes_back(name: str, tmp_path: Path) -> None:
    WRITERS[name](ROWS, tmp_path / name)
    made = study_of(read_table(tmp_path / name))
    assert groups(made, "lr", "optimizer") == expected(ROWS, "val_accuracy", "lr", "optimizer")
    assert [trial.attributes["seed"] for trial in made.trials] == ROWS["seed"].tolist()


def test_a_workbook_of_several_sheets_asks_for_one(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    with pd.ExcelWriter(tmp_path / "a.xlsx") as book:
        ROWS.to_excel(book, sheet_name="first", index=False)
        ROWS.head(2).to_excel(book, sheet_name="second", index=False)
    with pytest.raises(UserError, match=r"holds 2 sheets; say which: --pick first \| second"):
        read_table(tmp_path / "a.xlsx")
    assert len(read_table(tmp_path / "a.xlsx", pick="second").rows) == 2


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and so on")
    monkeypatch.setattr(pd, "read_parquet", lambda *_, **__: (_ for _ in ()).throw(ImportError()))
    with pytest.raises(UserError, match=r"needs the package pyarrow: pip install .*\[import\]"):
        read_table(tmp_path / "a.parquet")


def test_a_damaged_workbook_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and so on")
    with pytest.raises(UserError, match="is a Parquet file that cannot be read"):
        read_table(tmp_path / "a.parquet")


# Optuna.


def optuna_study(
    path: Path, direction: Literal["minimize", "maximize"] = "minimize"
) -> optuna.Study:
    optuna_study = optuna.create_study(
        storage=f"sqlite:///{path}", direction=direction, study_name="theirs",
        sampler=optuna.samplers.RandomSampler(seed=1),
    )  # fmt: skip

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        trial.suggest_categorical("opt", ["adam", "sgd"])
        layers = trial.suggest_int("layers", 1, 3)
        trial.set_user_attr("test_acc", 0.9)
        if trial.number == 3:
            raise optuna.TrialPruned
        if trial.number == 5:
            return float("nan")
        return abs(lr - 0.01) + layers / 10

    optuna_study.optimize(objective, n_trials=12)
    return optuna_study


def test_an_optuna_database_comes_back(tmp_path: Path) -> None:
    theirs = optuna_study(tmp_path / "a.db")
    before = (tmp_path / "a.db").read_bytes()
    table = read_table(tmp_path / "a.db")
    made = study_of(table)
    assert made.kind == "an Optuna database"
    assert (tmp_path / "a.db").read_bytes() == before
    done = [own for own in theirs.trials if own.state == optuna.trial.TrialState.COMPLETE]
    assert [own.value for own in made.trials if own.state == "COMPLETE"] == [t.value for t in done]
    assert [own.state for own in made.trials].count("FAIL") == 2  # pruned without a value, NaN
    assert made.minimize
    best = min(made.trials, key=lambda own: math.inf if own.value is None else own.value)
    assert best.params == theirs.best_params
    assert best.value == theirs.best_value
    assert made.plan["imported"]["figure"]["better"] == "lower"


def test_an_optuna_frame_asks_for_the_direction_and_then_is_the_same(tmp_path: Path) -> None:
    theirs = optuna_study(tmp_path / "a.db")
    theirs.trials_dataframe().to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(UnclearError, match="--metric value --lower-is-better"):
        study_of(read_table(tmp_path / "a.csv"))
    made = study_of(read_table(tmp_path / "a.csv"), metric="value", lower_is_better=True)
    own = study_of(read_table(tmp_path / "a.db"))
    assert [(t.state, t.value, t.params) for t in made.trials] == [
        (t.state, pytest.approx(t.value) if t.value else None, t.params) for t in own.trials
    ]


def test_a_database_of_several_studies_asks_for_one(tmp_path: Path) -> None:
    optuna_study(tmp_path / "a.db")
    optuna.create_study(storage=f"sqlite:///{tmp_path / 'a.db'}", study_name="other")
    with pytest.raises(UserError, match=r"holds 2 studies; say which: --pick theirs \| other"):
        read_table(tmp_path / "a.db")
    assert len(read_table(tmp_path / "a.db", pick="theirs").rows) == 12


# scikit-learn.


def test_a_grid_search_comes_back(tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    search = GridSearchCV(SVC(), {"C": [0.1, 1, 10], "kernel": ["rbf", "linear"]}, cv=3).fit(x, y)
    frame = pd.DataFrame(search.cv_results_)
    frame.to_csv(tmp_path / "a.csv")
    made = study_of(read_table(tmp_path / "a.csv"))
    assert made.kind.startswith("scikit-learn's cv_results_")
    assert made.summary.startswith("factorial, 6 settings, 6 runs")
    assert [own.value for own in made.trials] == pytest.approx(frame["mean_test_score"].tolist())
    best = max(made.trials, key=lambda own: own.value or 0.0)
    assert best.attributes["config"] == search.best_params_


def test_several_metrics_of_a_grid_search_compare_the_accuracy(tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    metrics = ["accuracy", "f1_macro"]
    search = GridSearchCV(SVC(), {"C": [0.1, 1]}, cv=3, scoring=metrics, refit=False).fit(x, y)
    pd.DataFrame(search.cv_results_).to_csv(tmp_path / "a.csv", index=False)
    made = study_of(read_table(tmp_path / "a.csv"))
    assert made.plan["imported"]["metric"] == "mean_test_accuracy"


# MLflow.


def mlflow_runs(mlflow: Any, uri: str) -> pd.DataFrame:
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("theirs")
    for lr in (0.1, 0.01):
        for seed in (1, 2):
            with mlflow.start_run():
                mlflow.log_params({"lr": lr, "seed": seed, "model/depth": 3})
                for epoch, value in enumerate((0.7, 0.9, 0.8)):
                    mlflow.log_metric("val_accuracy", value + lr / 10 + seed / 100, step=epoch)
                    mlflow.log_metric("train_loss", 1 - epoch / 10, step=epoch)
    with mlflow.start_run() as failed:
        mlflow.log_params({"lr": 0.5, "seed": 1, "model/depth": 3})
    mlflow.MlflowClient().set_terminated(failed.info.run_id, "KILLED")
    return mlflow.search_runs()


@pytest.mark.filterwarnings("ignore")
def test_an_mlflow_file_store_and_its_frame_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    frame = mlflow_runs(mlflow, (tmp_path / "mlruns").as_uri())
    frame.to_csv(tmp_path / "runs.csv", index=False)
    told = frame[frame["status"] == "FINISHED"].astype({"params.lr": float})
    made = study_of(read_table(tmp_path / "runs.csv"))
    assert groups(made, "lr") == expected(told, "metrics.val_accuracy", "params.lr")
    folder = study_of(read_table(tmp_path / "mlruns"))
    assert folder.kind == "an MLflow folder"
    assert [own.state for own in folder.trials].count("FAIL") == 1
    # The folder knows all epochs: the best by validation, as ours.
    best = {own.attributes["config"]["lr"]: own for own in folder.trials if own.value}
    assert best[0.1].attributes["best_epoch"] == 2
    assert {round(own.value or 0, 6) for own in folder.trials if own.value} == {
        0.92, 0.93, 0.911, 0.921,
    }  # fmt: skip
    assert {own.attributes["seed"] for own in folder.trials if own.value} == {1, 2}
    assert folder.plan["factors"] == {"lr": [0.01, 0.1]}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_mlflow_database_comes_back(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("mlflow.store.tracking.sqlalchemy_store")
    mlflow_runs(mlflow, f"sqlite:///{tmp_path / 'mlflow.db'}")
    made = study_of(read_table(tmp_path / "mlflow.db"))
    assert made.kind == "an MLflow database"
    assert made.plan["factors"] == {"lr": [0.01, 0.1]}
    assert len(made.trials) == 5


# TensorBoard.


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_s_event_files_come_back(tmp_path: Path) -> None:
    pytest.importorskip("tbparse")
    writers = pytest.importorskip("tensorboardX")
    for lr in (0.1, 0.01):
        writer = writers.SummaryWriter(str(tmp_path / "logs" / f"lr_{lr}"))
        for epoch in range(4):
            writer.add_scalar("val/acc", [0.5, 0.75, 0.625, 0.25][epoch] + lr * 0, epoch)
            writer.add_scalar("train/loss", 1 - epoch / 8, epoch)
        writer.close()
    made = study_of(read_table(tmp_path / "logs"))
    assert made.kind == "TensorBoard's event files"
    assert [own.value for own in made.trials] == [0.75, 0.75]
    assert dict(made.trials[0].steps) == {1: 0.5, 2: 0.75, 3: 0.625, 4: 0.25}
    assert made.plan["factors"] == {"run": ["lr_0.01", "lr_0.1"]}


def test_tensorboard_s_csv_takes_the_name_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run-first-tag-val_acc.csv"
    path.write_text("Wall time,Step,Value\n1.5,1,0.5\n2.5,2,0.75\n")
    made = study_of(read_table(path))
    assert made.kind == "TensorBoard's CSV"
    assert [own.value for own in made.trials] == [0.75]


# Folders of tools that are too heavy to install: files as they write them.


def lightning_folder(folder: Path) -> Path:
    """Write what Lightning's CSVLogger does: rows of training, then of validation."""
    for version, lr in enumerate((0.1, 0.01)):
        own = folder / f"version_{version}"
        own.mkdir(parents=True)
        (own / "hparams.yaml").write_text(
            f"lr: {lr}\nnet: !!python/object:mine.Net\n  depth: 3\nseed: 1\n"
        )
        rows = ["epoch,step,train_loss,val_acc"]
        for epoch, value in enumerate((0.5, 0.8, 0.7)):
            rows += [f"{epoch},{10 * epoch + 4},0.5,", f"{epoch},{10 * epoch + 9},,{value + lr}"]
        (own / "metrics.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_lightning_s_logs_with_their_settings_come_back(tmp_path: Path) -> None:
    made = study_of(read_table(lightning_folder(tmp_path / "lightning_logs")))
    assert made.kind == "Lightning's CSV log"
    assert made.plan["factors"] == {"lr": [0.01, 0.1]}
    assert [own.value for own in made.trials] == pytest.approx([0.9, 0.81])
    assert [own.attributes["best_epoch"] for own in made.trials] == [2, 2]
    single = read_table(tmp_path / "lightning_logs" / "version_1" / "metrics.csv")
    assert study_of(single).plan["baseline"]["lr"] == 0.01


def test_ray_s_folder_comes_back(tmp_path: Path) -> None:
    for number, lr in enumerate((0.1, 0.01, 0.05)):
        trial = tmp_path / f"train_{number}"
        trial.mkdir()
        (trial / "params.json").write_text(json.dumps({"lr": lr, "net": {"depth": 2}}))
        results = [
            {"mean_accuracy": 0.5 + 0.1 * epoch + lr, "training_iteration": epoch,
             "config": {"lr": lr}, "pid": 1, "done": epoch == 3}
            for epoch in (1, 2, 3)
        ]  # fmt: skip
        (trial / "result.json").write_text("".join(json.dumps(own) + "\n" for own in results))
    (tmp_path / "train_2" / "error.txt").write_text("out of memory")
    made = study_of(read_table(tmp_path))
    assert made.kind == "a Ray Tune folder"
    assert [own.value for own in made.trials[:2]] == pytest.approx([0.9, 0.81])
    assert made.trials[2].state == "FAIL"
    assert made.plan["factors"] == {"lr": [0.01, 0.1]}
    assert made.plan["baseline"]["net.depth"] == 2


def test_keras_tuner_s_folder_comes_back(tmp_path: Path) -> None:
    objective = {"name": "val_accuracy", "direction": "max"}
    (tmp_path / "oracle.json").write_text(json.dumps({"objective": objective}))
    for number, (units, status) in enumerate(
        [(32, "COMPLETED"), (64, "COMPLETED"), (8, "INVALID")]
    ):
        trial = tmp_path / f"trial_{number}"
        trial.mkdir()
        metric = {
            "direction": "max",
            "observations": [{"value": [0.8, 0.9 + units / 1000], "step": 1}],
        }
        loss = {"direction": "min", "observations": [{"value": [0.3], "step": 1}]}
        (trial / "trial.json").write_text(
            json.dumps(
                {
                    "trial_id": f"{number}",
                    "hyperparameters": {"values": {"units": units, "tuner/epochs": 3}},
                    "metrics": {"metrics": {"val_accuracy": metric, "val_loss": loss}},
                    "status": status,
                }
            )
        )
    made = study_of(read_table(tmp_path))
    assert made.kind == "a Keras Tuner folder"
    assert [own.value for own in made.trials[:2]] == pytest.approx([0.866, 0.882])
    assert made.trials[2].state == "FAIL"
    assert made.plan["factors"] == {"units": [32, 64]}


def test_wandb_s_local_runs_and_charts_come_back(tmp_path: Path) -> None:
    for number, lr in enumerate((0.1, 0.01)):
        files = tmp_path / "wandb" / f"run-2031-{number}" / "files"
        files.mkdir(parents=True)
        (files / "config.yaml").write_text(
            f"_wandb:\n  value:\n    python: '3'\nlr:\n  desc: null\n  value: {lr}\n"
        )
        summary = {"val_acc": 0.9 + lr / 10, "_step": 9, "_runtime": 3.5, "_wandb": {"runtime": 3}}
        (files / "wandb-summary.json").write_text(json.dumps(summary))
    made = study_of(read_table(tmp_path / "wandb"))
    assert made.kind == "W&B run folders"
    assert made.plan["factors"] == {"lr": [0.01, 0.1]}
    assert [own.value for own in made.trials] == pytest.approx([0.91, 0.901])
    chart = tmp_path / "chart.csv"
    chart.write_text(
        '"Step","fox-1 - val/acc","fox-1 - val/acc__MIN","owl-2 - val/acc","owl-2 - val/acc__MIN"\n'
        "1,0.5,0.5,0.4,0.4\n2,0.7,0.7,0.6,0.6\n3,,,0.5,0.5\n"
    )
    drawn = study_of(read_table(chart))
    assert drawn.kind == "a W&B chart"
    assert [(own.params["name"], own.value) for own in drawn.trials] == [
        ("fox-1", 0.7), ("owl-2", 0.6),
    ]  # fmt: skip


def test_logs_of_training_loops_are_one_run(tmp_path: Path) -> None:
    state = tmp_path / "trainer_state.json"  # of transformers
    log = [
        {"epoch": 0.5, "loss": 0.7, "step": 50}, {"epoch": 1.0, "eval_accuracy": 0.8, "step": 100},
        {"epoch": 1.5, "loss": 0.4, "step": 150}, {"epoch": 2.0, "eval_accuracy": 0.9, "step": 200},
    ]  # fmt: skip
    state.write_text(json.dumps({"best_metric": 0.9, "log_history": log}))
    assert [own.value for own in study_of(read_table(state)).trials] == [0.9]
    keras = tmp_path / "training_log.csv"
    keras.write_text("epoch,accuracy,val_accuracy\n0,0.5,0.6\n1,0.7,0.8\n2,0.9,0.7\n")
    (trial,) = study_of(read_table(keras)).trials
    assert (trial.value, trial.attributes["best_epoch"]) == (0.8, 2)
