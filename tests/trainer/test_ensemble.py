"""Ensembles of trained networks: who votes, on what, and what is said about the result."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from optuna.trial import TrialState

from analysis.ensemble import Ensemble, Member, candidates, render, vote
from analysis.statistics.proportions import compare, wilson
from analysis.trials import Trial, connect, studies, trials
from study.cli import main
from study.run.machine import Machine
from tests.support.plans import run, tiny
from tests.support.studies import POOLING, read, trial
from tests.support.trainings import small
from trainer.data import ImageData, split
from trainer.ensemble import Forest, shared_validation
from trainer.export import read_classifier

# Who votes.


def stored(tmp_path: Path, *made: Any) -> list[Trial]:
    return read(tmp_path, made, POOLING)[1]


def test_candidates_are_ordered_by_validation_accuracy_and_equal_ones_by_number(
    tmp_path: Path,
) -> None:
    own = stored(
        tmp_path,
        trial(POOLING, {}, 0, 0.90, checkpoint="a", test_accuracy=0.99),
        trial(POOLING, {}, 1, 0.92, checkpoint="b", test_accuracy=0.10),
        trial(POOLING, {"pooling": "avg"}, 0, 0.92, checkpoint="c", test_accuracy=0.95),
        trial(POOLING, {"pooling": "avg"}, 1, 0.95),  # without weights
        trial(POOLING, {"batchnorm": False}, 0, 0.99, state=TrialState.FAIL, checkpoint="d"),
        trial(POOLING, {"batchnorm": False}, 1, 0.91, checkpoint="e"),
    )
    assert [own.number for own in candidates(own, distinct=False)] == [1, 2, 5, 0]
    assert [own.number for own in candidates(own, distinct=True)] == [1, 2, 5]


def test_a_seed_that_was_trained_twice_votes_once(tmp_path: Path) -> None:
    own = stored(
        tmp_path,
        trial(POOLING, {}, 0, 0.90, checkpoint="a"),
        trial(POOLING, {}, 0, 0.92, checkpoint="b"),
    )
    assert [own.number for own in candidates(own, distinct=False)] == [0]


# The vote.

# Three members, four images, three classes.
PROBABILITIES = np.array(
    [
        [[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.5, 0.4], [0.9, 0.1, 0.0]],
        [[0.5, 0.2, 0.3], [0.4, 0.3, 0.3], [0.1, 0.2, 0.7], [0.1, 0.8, 0.1]],
        [[0.1, 0.8, 0.1], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6], [0.2, 0.7, 0.1]],
    ]
)
LABELS = np.array([0, 1, 2, 1])


def test_members_vote_with_the_mean_of_their_probabilities() -> None:
    found = vote(PROBABILITIES, LABELS)
    assert [own.right for own in found.members] == [2, 3, 3]
    # Means: [.4, .43, .17], [.23, .47, .3], [.13, .3, .57], [.4, .53, .07].
    assert found.ensemble.right == 3
    assert found.ensemble.accuracy == 0.75
    assert (found.ensemble.low, found.ensemble.high) == wilson(3, 4)
    expected = compare(np.array([False, True, True, True]), np.array([True, True, False, False]))
    assert found.against_best == expected
    assert (expected.only_first, expected.only_second) == (2, 1)


def test_an_ensemble_of_one_is_that_one() -> None:
    found = vote(PROBABILITIES[:1], LABELS)
    assert found.ensemble == found.members[0]
    assert (found.against_best.difference, found.against_best.p_value) == (0, 1)


def test_the_page_keeps_to_80_columns_and_shows_foreign_names_harmlessly() -> None:
    name = (
        "\x1b[31mkernel_size=5 residual=true augmentation=flip+erase+translate learning_rate=0.01"
    )
    found = Ensemble(
        study="s",
        dataset="fashion-mnist",
        top=3,
        distinct=False,
        members=[Member(12345, name, 999, 0.93, 350_000_000)] * 2
        + [Member(None, None, None, None, 123_456_789)],
        test=vote(PROBABILITIES, LABELS),
        shared=12_000,
        validation=vote(PROBABILITIES, LABELS),
    )
    text = render(found)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    words = " ".join(text.split())
    assert "p = 1; 2 images only the ensemble gets right, 1 only the single model" in words
    assert "The test set is looked at here once, for this one choice" in words
    assert "On the 12,000 images that none of the members was trained on" in words


# On which images.


def test_shared_validation_images_trained_none_of_the_members(digits: ImageData) -> None:
    configs = [small(seed=seed) for seed in range(3)]
    shared = set(shared_validation(configs, digits).tolist())
    for config in configs:
        train, validation = (set(part.tolist()) for part in split(digits, config))
        assert shared.isdisjoint(train)
        assert shared <= validation
    assert 0 < len(shared) < 0.2**2 * len(digits.train_labels)


def test_members_of_one_seed_share_their_whole_validation_set(digits: ImageData) -> None:
    configs = [small(seed=1), small(seed=1, width=16)]
    shared = shared_validation(configs, digits)
    assert shared.tolist() == split(digits, configs[0])[1].tolist()


# The forest.


def test_the_forest_learns_from_the_training_split_alone(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.ensemble import RandomForestClassifier

    seen = []
    fit = RandomForestClassifier.fit

    def spy(forest: Any, images: Any, labels: Any) -> Any:
        seen.append((images, labels))
        return fit(forest, images, labels)

    monkeypatch.setattr(RandomForestClassifier, "fit", spy)
    config = small(seed=3, subset=400)
    Forest(config, digits)
    ((images, labels),) = seen
    train, validation = split(digits, config)
    assert (len(train), len(validation)) == (320, 80)
    assert np.array_equal(images, digits.train_images[train].numpy())
    assert np.array_equal(labels, digits.train_labels[train].numpy())


def test_the_forest_is_the_same_every_time_and_knows_the_digits(digits: ImageData) -> None:
    first, second = (Forest(small(), digits) for _ in range(2))
    found = first.probabilities(digits.test_images)
    assert np.array_equal(found, second.probabilities(digits.test_images))
    assert found.sum(1) == pytest.approx(1)
    assert (found.argmax(1) == digits.test_labels.numpy()).mean() > 0.95
    assert first.size == second.size > 100_000
    assert len(first.forest.estimators_) == 100


def test_a_class_without_training_images_has_probability_zero(digits: ImageData) -> None:
    class_7 = digits.train_labels == 7
    labels = torch.where(class_7, 8, digits.train_labels)
    found = Forest(small(), replace(digits, train_labels=labels)).probabilities(digits.test_images)
    assert found.shape == (len(digits.test_labels), 10)
    assert (found[:, 7] == 0).all()
    assert found[:, 9].max() > 0.9


# The command.

Said = tuple[int, str, str]


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of two variants and two seeds."""
    folder = tmp_path_factory.mktemp("studied")
    run(tiny(epochs=3, subset=None), folder / "studies.db")
    return folder


@pytest.fixture
def folder(studied: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return shutil.copytree(studied, tmp_path / "copy")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run `ensemble` on the study of a folder; return its exit code, stdout and stderr."""

    def command(folder: Path, *words: object) -> Said:
        capsys.readouterr()
        fixed = ("ensemble", "--storage", folder / "studies.db", "--device", "cpu")
        with pytest.raises(SystemExit) as ended:
            main(map(str, (*fixed, *words)))
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out, said.err

    return command


def trials_of(folder: Path) -> list[Trial]:
    engine = connect(f"sqlite:///{folder}/studies.db")
    (study,) = studies(engine)
    return sorted(trials(engine, study.id), key=lambda own: (-(own.value or 0), own.number))


def test_the_ensemble_is_the_mean_of_what_each_members_weights_say(
    studied: Path, digits: ImageData, call: Callable[..., Said]
) -> None:
    code, out, err = call(studied, "--top", 3, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    best = trials_of(studied)[:3]
    assert [own["trial"] for own in found["members"]] == [own.number for own in best]
    assert [own["test_accuracy"] for own in found["members"]] == [own.test_accuracy for own in best]
    assert [own["val_accuracy"] for own in found["members"]] == [own.value for own in best]

    # The same by the other way that there is to a checkpoint's predictions.
    images = digits.test_images.view(-1, 1, 8, 8) / 255
    with torch.no_grad():
        probabilities = [
            read_classifier(studied / str(own.checkpoint))(images).softmax(1) for own in best
        ]
    labels = digits.test_labels
    together = torch.stack(probabilities).mean(0).argmax(1) == labels
    alone = probabilities[0].argmax(1) == labels
    assert found["test"]["ensemble"]["right"] == int(together.sum())
    against = found["test"]["against_best"]
    assert against["only_first"] == int((together & ~alone).sum())
    assert against["only_second"] == int((~together & alone).sum())
    assert against["low"] < against["difference"] < against["high"]


def test_a_random_forest_votes_as_one_more_member(studied: Path, call: Callable[..., Said]) -> None:
    code, out, err = call(studied, "--top", 1, "--random-forest", "--json")
    assert code == 0
    assert err == "training a random forest ...\n"
    found = json.loads(out)
    network, forest = found["members"]
    assert (forest["trial"], forest["val_accuracy"]) == (None, None)
    assert forest["test_accuracy"] > 0.95
    assert forest["bytes"] > 100 * network["bytes"]
    # One split alone: its validation images trained neither the network nor the forest.
    assert found["shared"] == 288
    assert found["validation"]["members"][0]["accuracy"] == network["val_accuracy"]


def test_distinct_members_are_of_different_variants(
    studied: Path, call: Callable[..., Said]
) -> None:
    code, out, _ = call(studied, "--top", 2, "--distinct", "--json")
    assert code == 0
    assert {own["variant"] for own in json.loads(out)["members"]} == {"baseline", "pooling=avg"}


def test_the_text_shows_members_ensemble_and_why_validation_is_left_out(
    studied: Path, call: Callable[..., Said]
) -> None:
    code, out, _ = call(studied, "--top", 4)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    words = " ".join(out.split())
    assert "The 4 best trials by validation accuracy; probabilities are averaged." in words
    assert "Of the ensemble it is left out: each seed holds other images back" in words
    assert "pooling=avg" in words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--top", "0"], "top = 0: must be at least 1"),
        (["--top", "-2"], "top = -2: must be at least 1"),
        (["--top", "9"], "top = 9: study 'tiny' has 4 finished trials whose weights are kept"),
        (["--top", "3", "--distinct"], "top = 3: study 'tiny' has 2 variants with a finished"),
        (["--top", "many"], "Invalid value for '--top'"),
        (["nothing"], "study = 'nothing': choose from tiny"),
        (["--top", "2", "--device", "tpu"], "device = 'tpu': choose auto, cpu"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    studied: Path, call: Callable[..., Said], words: list[str], message: str
) -> None:
    code, out, err = call(studied, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def best_weights(folder: Path) -> Path:
    return folder / str(trials_of(folder)[0].checkpoint)


def lose(folder: Path) -> None:
    best_weights(folder).unlink()


def damage(folder: Path) -> None:
    content = bytearray(best_weights(folder).read_bytes())
    content[-1] ^= 1
    best_weights(folder).write_bytes(content)


def swap(folder: Path) -> None:
    other = folder / str(trials_of(folder)[-1].checkpoint)
    for suffix in (".safetensors", ".json"):
        shutil.copy(other.with_suffix(suffix), best_weights(folder).with_suffix(suffix))


def say_other_data(folder: Path) -> None:
    described = best_weights(folder).with_suffix(".json")
    about = json.loads(described.read_text())
    about["dataset"] |= {"name": "mnist", "sha256": "0" * 64}
    described.write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lose, ".safetensors: No such file or directory"),
        (damage, ".safetensors: SHA-256 is"),
        (swap, ".safetensors: is of another training than trial"),
        (say_other_data, "on another data set, mnist"),
    ],
)
def test_weights_that_are_not_the_trials_are_refused_by_name(
    folder: Path, call: Callable[..., Said], harm: Callable[[Path], None], message: str
) -> None:
    name = best_weights(folder).name
    harm(folder)
    code, out, err = call(folder, "--top", 2)
    assert (code, out) == (2, "")
    assert message in err
    assert name in err
    assert err.count("\n") == 1


@pytest.mark.real
@pytest.mark.slow
def test_networks_and_a_forest_vote_on_real_images(
    fashion_mnist_dir: Path, tmp_path: Path, call: Callable[..., Said]
) -> None:
    plan = tiny(dataset="fashion-mnist", subset=1000, epochs=1)
    where = Machine(device="cpu", executor="inline", data_dir=fashion_mnist_dir)
    run(plan, tmp_path / "studies.db", machine=where)
    code, out, _ = call(
        tmp_path, "--top", 2, "--random-forest", "--json", "--data-dir", fashion_mnist_dir
    )
    assert code == 0
    found = json.loads(out)
    assert found["test"]["ensemble"]["images"] == 10_000
    best = trials_of(tmp_path)[0]
    network, _, forest = found["members"]
    assert network["test_accuracy"] == best.test_accuracy
    assert forest["test_accuracy"] > 0.7  # of 800 images; the networks have seen one epoch
    assert found["test"]["ensemble"]["accuracy"] > network["test_accuracy"]
