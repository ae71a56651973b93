"""A trained network evaluated again: the same figures, its mistakes by class, its speed."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from analysis import evaluation
from analysis.trials import connect, studies, trials
from study.cli import main
from tests.support.plans import run, tiny
from tests.support.studies import POOLING, database, trial
from tests.support.trainings import MIXED, small
from trainer import checkpoint, evaluate
from trainer.data import ImageData
from trainer.errors import UserError
from trainer.results import Result
from trainer.train import train

CPU = torch.device("cpu")


def keep(folder: Path, data: ImageData, config: Any, result: Result) -> Path:
    """Write a checkpoint as a worker does."""
    assert result.state is not None
    about = {"config": config.to_dict(), "result": result.to_dict(), "dataset": data.describe()}
    checkpoint.write(folder / "model.safetensors", result.state, about)
    return folder / "model.safetensors"


def rewrite(weights: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what a checkpoint says of itself."""
    described = weights.with_suffix(".json")
    about = json.loads(described.read_text())
    change(about)
    described.write_text(json.dumps(about))


@pytest.fixture(scope="module")
def kept(digits: ImageData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = small(epochs=2)
    (result,) = train([config], digits)
    return keep(tmp_path_factory.mktemp("kept"), digits, config, result)


@pytest.fixture
def weights(kept: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    shutil.copytree(kept.parent, tmp_path / "copy")
    return tmp_path / "copy" / kept.name


@pytest.mark.parametrize("precision", ["bf16", "fp32", "fp64"])
def test_members_of_a_bank_have_exactly_the_stored_figures_again(
    digits: ImageData, tmp_path: Path, precision: str
) -> None:
    configs = [small(**member, precision=precision, epochs=2) for member in MIXED]
    configs.append(small(precision=precision, epochs=2, normalization="none"))
    for k, (config, result) in enumerate(zip(configs, train(configs, digits), strict=True)):
        weights = keep(tmp_path / str(k), digits, config, result)
        found = evaluate.evaluate(evaluate.read(weights), digits, CPU)
        assert found.test_accuracy == result.test_accuracy
        assert result.confusion == {"test": found.confusion}
        assert (found.parameters, found.precision) == (result.parameters, precision)


def test_probabilities_are_those_of_the_logits_that_were_measured(
    kept: Path, digits: ImageData
) -> None:
    trained = evaluate.read(kept)
    found = evaluate.probabilities(evaluate.restore(trained, digits, CPU), digits.test_images)
    assert found.shape == (len(digits.test_labels), 10)
    assert found.sum(1) == pytest.approx(1)
    right = (found.argmax(1) == digits.test_labels.numpy()).mean()
    assert right == trained.result["test_accuracy"]


def test_a_network_is_not_evaluated_on_other_data(kept: Path, digits: ImageData) -> None:
    other = replace(digits, test_labels=digits.test_labels.flip(0))
    with pytest.raises(UserError, match=r"was trained on digits with SHA-256 .*, the data here"):
        evaluate.evaluate(evaluate.read(kept), other, CPU)


def transpose(state: dict[str, torch.Tensor]) -> None:
    state["classifier.weight"] = state["classifier.weight"].T


def one_for_all(state: dict[str, torch.Tensor]) -> None:
    # Would be broadcast without a word.
    state["classifier.bias"] = state["classifier.bias"][:1]


def one_too_many(state: dict[str, torch.Tensor]) -> None:
    state["head"] = torch.zeros(3)


@pytest.mark.parametrize("change", [transpose, one_for_all, one_too_many])
def test_weights_of_another_network_are_refused_by_name(
    weights: Path, digits: ImageData, change: Callable[[dict[str, torch.Tensor]], None]
) -> None:
    state, about = checkpoint.read(weights)
    before = {name: tensor.shape for name, tensor in state.items()}
    change(state)
    checkpoint.write(weights, state, about)
    names = {*before, *state}
    (changed,) = (n for n in names if n not in before or state[n].shape != before[n])
    with pytest.raises(UserError, match=f"not those of its config: {changed}$"):
        evaluate.restore(evaluate.read(weights), digits, CPU)


def test_a_lost_batch_norm_statistic_is_not_made_up(weights: Path, digits: ImageData) -> None:
    state, about = checkpoint.read(weights)
    (name, *_) = (name for name in state if "running_mean" in name)
    del state[name]
    checkpoint.write(weights, state, about)
    with pytest.raises(UserError, match=f"not those of its config: {name}$"):
        evaluate.restore(evaluate.read(weights), digits, CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about: about.pop("config"), "lacks 'config'"),
        (lambda about: about.update(dataset="digits"), "lacks 'dataset'"),
        (lambda about: about["dataset"].pop("sha256"), "'dataset' lacks 'sha256'"),
        (lambda about: about["result"].update(test_accuracy=None), "lacks 'test_accuracy'"),
        (lambda about: about["config"].update(depth=99), "depth = 99: must be at least 1"),
        (lambda about: about["config"].update(colour="red"), "field = 'colour': choose from"),
    ],
)
def test_a_description_that_is_not_a_trials_is_refused_with_its_path(
    weights: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    rewrite(weights, change)
    with pytest.raises(UserError) as refused:
        evaluate.read(weights)
    assert message in str(refused.value)
    assert str(weights.with_suffix(".json")) in str(refused.value)


def test_accuracies_by_class_are_counted_from_the_rows() -> None:
    found = evaluation.mistakes([[8, 2, 0], [1, 4, 0], [0, 0, 20]])
    assert (found.test.right, found.test.images) == (32, 35)
    assert [(own.right, own.images) for own in found.classes] == [(8, 10), (4, 5), (20, 20)]
    assert found.classes[2].accuracy == 1.0
    assert found.classes[2].low < 0.9


def test_the_page_keeps_to_80_columns_with_ten_thousand_images_and_hostile_names() -> None:
    classes = ["T-shirt/top", "Trouser", "\x1b[31mred", *(f"class {i}" for i in range(7))]
    confusion = [[1000 if row == column else 0 for column in range(10)] for row in range(10)]
    figures = {"p50_ms": 1234.5678, "p95_ms": 2345.6789, "images_per_second": 123456.7}
    inference = {"cuda": {"1": figures, "32": figures}, "cpu": {"1": figures, "32": figures}}
    text = evaluation.render("folder", ["facts " * 30], confusion, classes, inference)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert "2 \\x1b[31mred" in text
    assert "100.00  [99.62, 100.00]" in text
    assert "123,457" in text


# The command.


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `best --export` writes of a tiny study, and beside it the study."""
    folder = tmp_path_factory.mktemp("exported")
    run(tiny(), folder / "studies.db")
    with pytest.raises(SystemExit) as ended:
        main(["best", "--storage", str(folder / "studies.db"), "--export", str(folder / "out")])
    assert ended.value.code == 0
    return folder / "out"


Said = tuple[int, str, str]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run a command; return its exit code, stdout and stderr."""

    def command(*words: object) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(map(str, words))
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out, said.err

    return command


def test_an_exported_network_has_exactly_the_test_accuracy_of_its_trial(
    exported: Path, call: Callable[..., Said]
) -> None:
    code, out, err = call("evaluate", exported, "--json", "--device", "cpu")
    assert (code, err) == (0, "")
    found = json.loads(out)
    engine = connect(f"sqlite:///{exported.parent}/studies.db")
    (study,) = studies(engine)
    best = max(trials(engine, study.id), key=lambda trial: trial.value or 0)
    assert found["test_accuracy"] == found["stored_test_accuracy"] == best.test_accuracy
    assert found["test_accuracy_low"] < found["test_accuracy"] < found["test_accuracy_high"]
    assert found["config"] == best.config
    assert found["dataset"] == "digits"
    assert [row["name"] for row in found["classes"]] == [str(digit) for digit in range(10)]
    right = [row["right"] for row in found["classes"]]
    assert right == [row[label] for label, row in enumerate(found["confusion"])]
    assert sum(right) / found["test_images"] == best.test_accuracy
    assert set(found["inference"]["cpu"]) == {"1", "32"}
    assert found["parameters"] == sum(
        tensor.numel()
        for name, tensor in load_file(exported / "model.safetensors").items()
        if "running" not in name
    )


def test_the_text_names_the_accuracy_the_classes_and_the_latency(
    exported: Path, call: Callable[..., Said]
) -> None:
    code, out, _ = call("evaluate", exported, "--device", "cpu")
    assert code == 0
    assert "The test accuracy is the one that was stored when it was trained." in " ".join(
        out.split()
    )
    for heading in ("test accuracy by true class", "predicted class (column)", "p95 ms"):
        assert heading in out


def test_the_best_of_a_study_without_weights_is_named_but_not_exported(
    tmp_path: Path, call: Callable[..., Said]
) -> None:
    database(tmp_path, [trial(POOLING, {}, 0, 0.9), trial(POOLING, {}, 1, 0.95)], of=POOLING)
    where = ("--storage", tmp_path / "studies.db")
    code, out, _ = call("best", *where, "--json")
    assert (code, json.loads(out)["checkpoint"]) == (0, None)
    code, out, _ = call("best", *where)
    assert code == 0
    assert "test accuracy of seed 1: 94.00 %" in out
    code, out, err = call("best", *where, "--export", tmp_path / "out")
    assert (code, out) == (2, "")
    assert "study 'test': trial 1 has no weights to export" in err
    assert not (tmp_path / "out").exists()


def test_a_figure_that_is_not_the_stored_one_is_said_so(
    weights: Path, call: Callable[..., Said]
) -> None:
    rewrite(weights, lambda about: about["result"].update(test_accuracy=0.125))
    code, out, _ = call("evaluate", weights.parent, "--device", "cpu")
    assert code == 0
    assert "the test accuracy was 12.50 %" in " ".join(out.split())


def damage(weights: Path) -> None:
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda weights: weights.unlink(), "copy: lacks model.safetensors of 'best --export'"),
        (lambda weights: weights.with_suffix(".json").unlink(), "copy: lacks model.json of"),
        (lambda weights: shutil.rmtree(weights.parent), "copy: no such folder"),
        (damage, "model.safetensors: SHA-256 is"),
        (lambda weights: weights.with_suffix(".json").write_text("{"), "model.json: not JSON"),
    ],
)
def test_a_folder_that_is_not_whole_is_one_line_and_exit_code_2(
    weights: Path, call: Callable[..., Said], harm: Callable[[Path], object], message: str
) -> None:
    harm(weights)
    code, out, err = call("evaluate", weights.parent)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_a_network_trained_on_a_gpu_has_its_figures_there_again_and_nearly_on_the_cpu(
    digits: ImageData, tmp_path: Path
) -> None:
    configs = [small(**member, epochs=2, precision="auto") for member in MIXED]
    results = train(configs, digits, device="cuda:0")
    for k, (config, result) in enumerate(zip(configs, results, strict=True)):
        trained = evaluate.read(keep(tmp_path / str(k), digits, config, result))
        again = evaluate.evaluate(trained, digits, torch.device("cuda:0"))
        assert again.test_accuracy == result.test_accuracy
        assert set(again.inference) == {"cuda", "cpu"}
        on_cpu = evaluate.evaluate(trained, digits, CPU)
        assert on_cpu.precision == result.precision
        assert on_cpu.test_accuracy == pytest.approx(result.test_accuracy, abs=0.01)
