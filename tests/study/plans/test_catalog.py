"""The plans that ship with the package hold what they promise."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis import trials as stored
from study import cli
from study.plans import catalog
from study.plans.plan import Cell, Plan, Variant, load_plan
from study.plans.space import every_point
from study.run.machine import Machine
from study.store import location
from tests.support.plans import run
from trainer.config import ARCHITECTURE_FIELDS, TrainConfig, network_fields
from trainer.data import ImageData
from trainer.datasets import DATASETS
from trainer.models import describe

Show = Callable[[str], list[dict[str, Any]]]


def parameters(config: TrainConfig) -> int:
    return describe(config, *DATASETS[config.dataset].shape).parameters


def configs(plan: Plan) -> list[TrainConfig]:
    return [plan.config_of(Cell(variant, plan.seeds - 1)) for variant in plan.variants]


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("name", catalog.names())
def test_every_plan_fits_every_data_set(name: str, dataset: str) -> None:
    plan = load_plan(name, dataset=dataset)

    assert (plan.name, plan.dataset) == (name, dataset)
    assert 0 < len(plan.description) <= 60  # a line of `list`
    assert plan.seeds >= 3  # fewer cannot carry a claim
    assert all(parameters(config) > 0 for config in configs(plan))
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))).to_dict() == plan.to_dict()


def test_the_ablation_varies_what_people_ask_about() -> None:
    plan = load_plan("ablation")

    assert set(plan.factors) == {
        "batchnorm",
        "dropout",
        "pooling",
        "batch_size",
        "kernel_size",
        "width",
        "learning_rate",
        "augmentation",
    }
    assert set(plan.factors["augmentation"]) == {
        "none",
        "flip",
        "erase",
        "translate",
        "flip+erase",
        "flip+translate",
        "erase+translate",
        "flip+erase+translate",
    }
    for factor, levels in plan.factors.items():
        assert getattr(plan.base_config, factor) in levels
        assert len(levels) >= 2


@pytest.mark.parametrize("name", ["ablation", "baseline", "pareto", "search"])
def test_the_baseline_is_the_network_of_50282_parameters(name: str) -> None:
    assert parameters(load_plan(name).base_config) == 50_282


@pytest.mark.parametrize("name", catalog.names())
def test_batches_of_the_digits_plans_fit_its_images(name: str, digits: ImageData) -> None:
    plan = load_plan(name, dataset="digits")
    training = round(len(digits.train_labels) * (1 - plan.base_config.validation_fraction))
    assert max(config.batch_size for config in [plan.base_config, *configs(plan)]) * 5 < training


BOUNDS = {
    "record": 100_000,
    "record-ablation": 100_000,
    "record-300k": 300_000,
    "record-500k": 500_000,
}


@pytest.mark.parametrize("name", BOUNDS)
def test_every_variant_of_a_record_obeys_its_bound(name: str) -> None:
    plan = load_plan(name)
    sizes = [parameters(config) for config in configs(plan)]
    assert 0.8 * BOUNDS[name] < max(sizes) <= BOUNDS[name]
    if plan.variant_count == 1:
        assert f"{sizes[0]:,}" in catalog.text(name)


def test_every_point_of_the_records_search_obeys_its_bound() -> None:
    plan = load_plan("record-search")
    assert plan.search is not None
    network = [p for p in plan.search.space if p.name in network_fields("convnet") - {"dropout"}]
    points = list(every_point(network, plan.base_config))
    sizes = [parameters(plan.base_config.replace(**point)) for point in points]
    assert set(sizes) == {84_154, 86_074, 93_594}


def test_the_documented_catalogue_is_this_one() -> None:
    docs = (Path(__file__).parents[3] / "docs" / "plans.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| (`[\w`, -]+) \| .* \| ([\d, ]*)\|$", docs, re.MULTILINE)
    sizes = {
        name: int(count)
        for names, counts in told
        for name, count in zip(
            re.findall(r"`([\w-]+)`", names), re.findall(r"\d+", counts) or ["60"] * 3, strict=True
        )
    }
    assert set(sizes) == set(catalog.names())
    designs = {name: load_plan(name) for name in sizes if load_plan(name).search is None}
    assert {name: plan.variant_count for name, plan in designs.items()} == {
        name: sizes[name] for name in designs
    }


@pytest.mark.parametrize("name", catalog.names())
def test_what_show_prints_fits_80_columns(
    name: str, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FMNIST_DATA_DIR", raising=False)
    with pytest.raises(SystemExit):
        cli.main(["show", name])
    lines = capsys.readouterr().out.splitlines()

    assert [line for line in lines if len(line) > 80] == []
    assert lines[0] == f"{name}: {load_plan(name).description}"
    plan = load_plan(name)
    assert any(line.startswith(f"{plan.variant_count} ") for line in lines)
    named = [str(row.level) for row in plan.listed]
    assert all(any(level in line for line in lines) for level in named)


def test_a_description_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "evil.toml"
    file.write_text('name = "x"\ndescription = "\\u001b[2J\\u202e"\n', encoding="utf-8")
    with pytest.raises(SystemExit):
        cli.main(["show", str(file), "--dataset", "mnist"])
    assert capsys.readouterr().out.startswith("x: \\x1b[2J\\u202e\nablation on mnist, 10 epochs")


# The reference projects: what they varied, what they counted, what they said.

SOURCES = ("lenet", "pooling", "pooling-wishes", "recipes", "structure", "batchnorm-lr")


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any) -> Show:
    """`fmnist-study show NAME --json`, without data: its rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FMNIST_DATA_DIR", raising=False)

    def rows(name: str) -> list[dict[str, Any]]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["show", name, "--json"])
        assert ended.value.code == 0
        found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["variants"]
        return found

    return rows


# Factor and level -> parameters, exactly as their code comes to.
COUNTS: dict[str, dict[tuple[str | None, Any], int]] = {
    "pooling": {(None, None): 392_714, ("batchnorm", True): 393_610},
    "recipes": {
        ("experiment", "1 VGG-like"): 6_494_570,
        ("experiment", "6 crop and rotation"): 6_494_570,
        ("experiment", "8 MobileNetV2, SGD"): 680_202,
        ("experiment", "7 ResNet, 7x7 stem"): 2_779_082,
        ("experiment", "9 ResNet, 3x3 stem"): 2_780_810,
        ("experiment", "10 ResNet-like"): 2_780_810,
    },
    "structure": {
        ("structure", "2 Conv"): 50_282,
        ("structure", "2 Conv + Residual"): 76_170,
        ("structure", "4 Conv"): 247_978,
        ("structure", "4 Conv + Residual"): 402_538,
        ("width", 32): 402_538,
        ("width", 64): 1_480_906,
        ("width", 128): 5_665_162,
        ("width", 512): 87_541_258,
        ("kernel_size", 1): 83_882,
        ("kernel_size", 5): 576_170,
        ("batchnorm", False): 247_338,
    },
    "batchnorm-lr": {
        (None, None): 25_994_986,
        ("batchnorm", False): 25_993_898,
        ("learning_rate", 0.008): 25_994_986,
        ("network", "v1 (toy)"): 39_358,
        ("network", "ResNet-18"): 11_175_370,
    },
}


def test_rows_say_what_they_change_and_what_they_are_compared_with(show: Show) -> None:
    rows = {(row["factor"], row["level"]): row for row in show("structure")}

    assert rows["width", 64] | {"multiply_adds": 0} == {
        "variant": "width=64 residual=true",
        "factor": "width",
        "level": 64,
        "changes": {"width": 64, "residual": True},
        "against": {"residual": True},
        "architecture": "convnet",
        "epochs": 50,
        "parameters": 1_480_906,
        "multiply_adds": 0,
        "seconds": None,
    }
    assert rows[None, None]["variant"] == rows["structure", "4 Conv"]["variant"] == "baseline"
    cells = show("pooling")
    assert [row["factor"] for row in cells if len(row["changes"]) != 1] == [None] * 19
    assert {row["factor"] for row in cells} == {None, *load_plan("pooling").factors}


@pytest.mark.parametrize("name", COUNTS)
def test_networks_have_exactly_the_reported_sizes(name: str, show: Show) -> None:
    rows = {(row["factor"], row["level"]): row for row in reversed(show(name))}

    counts = {key: rows[key]["parameters"] for key in COUNTS[name]}

    assert counts == COUNTS[name]
    assert all(row["multiply_adds"] > 0 and row["architecture"] for row in rows.values())


def test_conv_pairs_counts_16_02_billion_multiply_adds_for_a_batch_of_64(show: Show) -> None:
    rows = {(row["factor"], row["level"]): row["multiply_adds"] for row in show("batchnorm-lr")}

    assert round(rows["batchnorm", False] * 64 / 1e9, 2) == 16.02
    assert round(rows["network", "v1 (toy)"] * 64 / 1e6, 2) == 3.32
    assert round(rows["network", "ResNet-18"] * 64 / 1e9, 2) == 2.11


def test_a_newcomer_sees_whose_figures_a_plan_repeats(
    tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FMNIST_DATA_DIR", raising=False)  # `show` would measure what plans cost

    def printed(*args: str) -> str:
        with pytest.raises(SystemExit) as ended:
            cli.main([*args])
        assert ended.value.code == 0
        return capsys.readouterr().out

    listed = " ".join(printed("list").split())
    plans = [row for row in json.loads(printed("list", "--json")) if not row["stored"]]
    sources = {plan["name"]: plan["source"] for plan in plans if plan["source"]}
    assert set(sources) == {*SOURCES, "references"}
    for name, source in sources.items():
        assert f"{name} {load_plan(name).description}" in listed
        assert f"({source['name']})" in load_plan(name).description
        shown = " ".join(printed("show", name).split())
        assert f"{source['name']} reported figures of" in shown
        assert f"{source['url']} licence: {source['license']}" in shown


@pytest.mark.parametrize("name", [*SOURCES, "references"])
def test_every_plan_of_a_reference_says_whose_figures_it_carries(name: str) -> None:
    figures = load_plan(name).to_dict()

    source = figures["source"]
    repository = source["url"].removeprefix("https://github.com/")
    assert repository.startswith(source["name"]) or name == "lenet"
    assert source["license"]
    assert figures["source"]["test_images"] == 10_000
    assert figures["reported"]
    # Only the LeNet notebook kept its test data apart.
    assert figures["source"]["selected_on"] == ("validation" if name == "lenet" else "test")


def accuracies(name: str) -> dict[str, Any]:
    """Variant -> reported accuracy, in percent."""
    plan = load_plan(name)
    told = [(entry["changes"], entry.get("test_accuracy")) for entry in plan.figures.reported]
    return {
        Variant(tuple(changes.items())).label: accuracy and round(100 * accuracy, 2)
        for changes, accuracy in told
    }


def test_pooling_sets_out_24_cells_each_with_its_own_figure() -> None:
    plan = load_plan("pooling")
    assert plan.variant_count == len(plan.figures.reported) == 24
    assert {name: len(levels) for name, levels in plan.factors.items()} == {
        "batchnorm": 2,
        "dropout": 2,
        "pooling": 2,
        "batch_size": 3,
    }
    cells = list(accuracies("pooling").values())
    assert (max(cells), min(cells)) == (accuracies("pooling")["baseline"], 90.77) == (92.69, 90.77)
    assert sum(cells) / 24 == pytest.approx(91.75, abs=0.001)
    # "The 24 trainings took 8,805 s."
    assert sum(entry["seconds"] for entry in plan.figures.reported) == pytest.approx(8805, abs=1)
    best = plan.base_config
    assert (best.pooling, best.dropout, best.batchnorm, best.batch_size) == ("avg", 0.2, False, 128)


def test_the_wishes_vary_what_their_author_asks_for() -> None:
    assert set(load_plan("pooling-wishes").tables) == {
        "learning_rate",
        "decay",
        "bias under batch norm",
        "optimizer",
        "weight_decay",
        "activation",
        "kernel_size",
        "augmentation",
        "early_stopping",
    }


def test_recipes_are_the_experiments_1_to_10() -> None:
    plan = load_plan("recipes")
    rows = plan.rows[1:]
    assert [int(str(row.level).split()[0]) for row in rows] == [
        *(1, 2, 3, 3, 4, 4, 5, 6, 7, 8, 8, 9, 10)
    ]
    epochs = [plan.config_of(Cell(row.variant, 0)).epochs for row in rows]
    assert epochs == [15, 15, 15, 15, 15, 15, 40, 40, 60, 200, 200, 40, 40]
    reported = accuracies("recipes")
    assert [reported[row.variant.label] for row in rows] == [
        *(92, 92, 92, 93.2, 93.7, 93.8, 94.6, 94.67, 93.4, 93.1, 93.1, 94.26, 94.67)
    ]


def test_structure_carries_the_figures_of_all_its_tables() -> None:
    plan = load_plan("structure")
    assert set(plan.tables) == {
        "structure",
        "width",
        "kernel_size",
        "batchnorm",
        "dropout",
        "optimizer",
        "learning_rate",
        "schedule",
        "augmentation",
    }
    reported = accuracies("structure")
    assert set(reported) == {variant.label for variant in plan.variants}
    by_table = {
        factor: [reported[row.variant.label] for row in plan.rows if row.factor == factor]
        for factor in plan.tables
    }
    assert by_table == {
        "kernel_size": [89.09, 92.92],
        "batchnorm": [92.62],
        "dropout": [93.01, 93.25],
        "learning_rate": [91.83, 92.34, 93.18],
        "schedule": [92.86],
        "augmentation": [93.47, 93.41, 93.35, 92.53, 92.92, 93.12, 92.78],
        "structure": [92.84, 93.11, 93.14, 92.98],
        "width": [92.98, 92.48, 92.7, 91.46],
        "optimizer": [93.14, 92.65],
    }
    latency = {
        Variant(tuple(entry["changes"].items())).label: entry.get("latency_ms")
        for entry in plan.figures.reported
    }
    assert [latency[row.variant.label] for row in plan.rows if row.factor == "structure"] == [
        *(0.75, 1.61, 1.15, 2.84)
    ]
    # Its width table has another base than the others.
    assert {row.against.label for row in plan.rows if row.factor == "width"} == {"residual=true"}
    assert {"text", "factor", "best"} <= plan.figures.claims[-1].keys()
    assert plan.figures.claims[-1]["best"] == "flip+erase"


def test_lenet_tries_the_variance_that_was_taken_for_a_deviation() -> None:
    plan = load_plan("lenet")
    assert plan.base_config.normalization == "0.286/0.353"
    assert "0.286/0.126" in plan.factors["normalization"]
    assert set(plan.tables) >= {"optimizer", "batch_size", "augmentation", "early_stopping"}
    assert parameters(plan.base_config) * 4 == pytest.approx(4.36e6, rel=0.002)


def test_learning_rates_of_batchnorm_lr_double() -> None:
    rates = load_plan("batchnorm-lr").factors["learning_rate"]
    assert rates == [0.001, 2 * 0.001, 4 * 0.001, 8 * 0.001]


# Every plan runs on digits: small ones whole, of the others a network of each architecture.

WHOLE = ("baseline", "lenet", "pooling", "pooling-wishes")


def run_whole(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[stored.Trial]:
    """Run a plan's command with one seed and epoch; return its trials."""
    monkeypatch.chdir(folder)
    options = ["--dataset", "digits", "--epochs", "1", "--seeds", "1", "--subset", "600"]
    options += ["--executor", "inline"]
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", name, *options, "--device", "cpu", "--storage", "studies.db"])
    assert ended.value.code == 0
    return trials_in(folder)


def trials_in(folder: Path) -> list[stored.Trial]:
    engine = stored.connect(location.locate(str(folder / "studies.db")))
    (study,) = stored.studies(engine)
    return stored.trials(engine, study.id)


@pytest.mark.parametrize("name", WHOLE)
def test_a_small_plan_runs_whole(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = run_whole(name, tmp_path, monkeypatch)

    planned = load_plan(name, dataset="digits").override(epochs=1).variants
    assert [trial.variant for trial in trials] == [variant.label for variant in planned]
    assert {(trial.state, trial.epochs) for trial in trials} == {("COMPLETE", 1)}


@pytest.mark.parametrize("name", [name for name in catalog.names() if name not in WHOLE])
def test_every_architecture_of_a_large_plan_trains(name: str, tmp_path: Path) -> None:
    plan = load_plan(name, dataset="digits").override(epochs=1, seeds=1, subset=400)
    plan = plan.override(trials=3) if plan.search else one_of_each(plan)

    state = run(plan, tmp_path / "studies.db")

    assert (state.failed, state.done) == (0, state.planned)
    trained = {trial.config["architecture"] for trial in trials_in(tmp_path)}
    assert trained == {config.architecture for config in configs(plan)} or plan.search


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in catalog.names() if name not in WHOLE])
def test_a_large_plan_runs_whole(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = run_whole(name, tmp_path, monkeypatch)

    assert {trial.state for trial in trials} <= {"COMPLETE", "PRUNED"}
    assert len(trials) >= load_plan(name, dataset="digits").override(epochs=1).variant_count


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("name", [*SOURCES, "references"])
def test_the_reference_plans_train_on_real_images(
    name: str, tmp_path: Path, fashion_mnist_dir: Path
) -> None:
    plan = one_of_each(load_plan(name).override(epochs=1, seeds=1, subset=400))
    machine = Machine(device="cpu", executor="inline", data_dir=fashion_mnist_dir)

    state = run(plan, tmp_path / "studies.db", machine=machine)

    assert (state.failed, state.done) == (0, state.planned)
    assert all(trial.test_accuracy is not None for trial in trials_in(tmp_path))


def one_of_each(plan: Plan) -> Plan:
    """Keep one variant of each architecture: of those that have one, the last."""
    kept = {plan.config_of(Cell(own, 0)).architecture: own for own in plan.variants}
    listed = [
        {"factor": "architecture", "level": name, "changes": dict(variant.changes)}
        for name, variant in kept.items()
        if variant.changes
    ]
    figures = ("source", "reported", "claims")  # of variants that are left out
    values = {key: own for key, own in plan.to_dict().items() if key not in figures}
    return Plan.from_dict({**values, "design": "ablation", "factors": {}, "variants": listed})


def test_all_architectures_are_in_the_catalogue() -> None:
    plans = [load_plan(name) for name in catalog.names()]
    trained = {config.architecture for plan in plans for config in configs(plan)}
    assert trained == set(ARCHITECTURE_FIELDS)
