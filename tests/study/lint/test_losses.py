"""Losses and courses that no correct training has, and correct ones that look like them."""

import pytest

from study.lint import lint
from tests.support.linting import FIXTURES, examined, found, ours, row


def test_losses_that_follow_the_accuracy_are_no_matter_of_scale() -> None:
    """Larger batches that train worse have larger losses, or far smaller ones that train better."""
    text = "batch_size,seed,val_acc,val_loss\n" + "".join(
        f"{batch},{seed},{acc},{loss}\n"
        for batch, acc, loss in ((32, 0.70, 0.80), (64, 0.85, 0.41), (128, 0.93, 0.2))
        for seed in range(3)
    )
    assert found(examined("a.csv", text), "loss-scale") == []


def test_a_smoothed_training_loss_may_stay_high() -> None:
    text = "smooth,seed,val_acc,train_acc,train_loss\n" + "".join(
        f"0.5,{seed},0.9,0.9{seed},1.48\n" for seed in range(3)
    )
    assert found(examined("a.csv", text), "softmax-loss") == [("error", "results")]
    renamed = text.replace("smooth,", "label_smoothing,")
    assert found(examined("a.csv", renamed), "softmax-loss") == []


def test_a_loss_of_many_classes_may_be_high() -> None:
    text = (FIXTURES / "softmax-loss.csv").read_text(encoding="utf-8")
    assert found(examined("a.csv", text, dataset="cifar100"), "softmax-loss") == []


def test_an_overconfident_network_s_loss_is_no_softmax_s() -> None:
    text = (FIXTURES / "softmax-loss.csv").read_text(encoding="utf-8")
    assert found(examined("a.csv", text.replace("1.541", "1.9")), "softmax-loss") == []


def test_a_learning_rate_too_high_is_noted_in_a_study_of_ours() -> None:
    plan = ours(seeds=3, factors={"learning_rate": [3e-3, 50.0]})
    still = [{"epoch": e, "train_loss": 2.3, "train_accuracy": 0.1, "val_accuracy": 0.1}
             for e in (1, 2, 3)]  # fmt: skip
    moving = [{**own, "val_accuracy": 0.3 * own["epoch"]} for own in still]
    rows = [
        row(changes, seed, 0.5, history=history)
        for changes, history in (({}, moving), ({"learning_rate": 50.0}, still))
        for seed in range(3)
    ]
    (finding,) = lint(plan, rows)
    assert (finding.code, finding.severity) == ("not-training", "note")
    assert "3 of 6 runs" in finding.message
    assert "learning_rate=50" in finding.message


def test_figures_that_stand_still_are_found_without_knowing_the_classes() -> None:
    text = "model,seed,epoch,train_loss,val_acc\n" + "".join(
        f"a,{seed},{epoch},1.100,0.4{seed}\n" for seed in range(3) for epoch in range(1, 5)
    )
    assert found(examined("a.csv", text), "not-training") == [("error", "results")]
    done = text.replace(",0.4", ",0.995")  # a pretrained network may begin where it ends
    assert found(examined("a.csv", done), "not-training") == []


def test_an_overfitted_network_s_loss_is_no_softmax_s() -> None:
    """Its validation loss rises to where a softmax's would be; its training loss is far below."""
    text = "dropout,seed,val_acc,val_loss,train_loss\n" + "".join(
        f"{dropout},{seed},0.92{seed},1.5{seed},0.02{seed}\n"
        for dropout in (0, 0.1)
        for seed in range(3)
    )
    assert found(examined("a.csv", text), "softmax-loss") == []
    without = "\n".join(line.rpartition(",")[0] for line in text.splitlines()) + "\n"
    assert found(examined("a.csv", without), "softmax-loss") == [("error", "results")]


def test_a_validation_loss_that_was_low_once_is_no_softmax_s() -> None:
    text = "dropout,seed,epoch,val_acc,val_loss\n" + "".join(
        f"{dropout},{seed},{epoch},0.92{epoch},{loss}\n"
        for dropout in (0, 0.1)
        for seed in range(3)
        for epoch, loss in enumerate((0.31, 0.9, 1.53), 1)
    )
    assert found(examined("a.csv", text), "softmax-loss") == []


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        ((0.92, 0.92), True),
        ((0.92, 0.88), True),
        ((0.88, 0.92), True),  # a third fewer mistakes are no loss of a quarter
        ((0.60, 0.92), False),
    ],
)
def test_a_loss_s_scale_is_judged_by_the_mistakes_behind_it(
    accuracies: tuple[float, float], said: bool
) -> None:
    text = "batch_size,seed,val_acc,val_loss\n" + "".join(
        f"{batch},{seed},{accuracy + seed / 1000},{0.24 / batch * (1 + seed / 100)}\n"
        for batch, accuracy in zip((32, 128), accuracies, strict=True)
        for seed in range(3)
    )
    assert found(examined("a.csv", text), "loss-scale") == ([("error", "results")] if said else [])
