"""Which classes are taken for which."""

import torch

from tests.support.trainings import small
from trainer.confusion import confusion
from trainer.data import ImageData
from trainer.train import train


def test_rows_are_true_classes_and_columns_what_they_were_taken_for() -> None:
    labels = torch.tensor([0, 0, 0, 2, 1, 1])
    predicted = torch.tensor([0, 2, 2, 2, 1, 0])
    assert confusion(predicted, labels, 4) == [[1, 0, 2, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0] * 4]


def test_the_confusion_of_a_trial_holds_its_test_accuracy_and_every_class_whole(
    digits: ImageData,
) -> None:
    results = train([small(epochs=1, seed=seed) for seed in (0, 1)], digits)
    for result in results:
        assert result.confusion is not None
        rows = result.confusion["test"]
        right = sum(row[label] for label, row in enumerate(rows))
        assert right / len(digits.test_labels) == result.test_accuracy
        assert [sum(row) for row in rows] == torch.bincount(digits.test_labels).tolist()
    assert results[0].confusion != results[1].confusion


def test_a_trial_that_was_stopped_has_no_look_at_the_test_set(digits: ImageData) -> None:
    (result,) = train([small(epochs=2)], digits, on_epoch=lambda _: [0])
    assert (result.outcome, result.confusion, result.inference) == ("stopped", None, None)
