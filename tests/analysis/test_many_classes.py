"""Of many classes the confusion matrix shows those that are mistaken most."""

import numpy as np

from analysis.page.model import MOST_CLASSES, most_mistaken


def test_the_matrix_of_many_classes_keeps_the_most_mistaken_and_every_image() -> None:
    counts = np.random.default_rng(0).integers(0, 2, (200, 200))
    counts[7] += 5
    shown, titles = most_mistaken(counts.tolist(), [f"c{place}" for place in range(200)])
    assert len(shown) == len(titles) == MOST_CLASSES + 1
    assert "c7" in titles
    assert titles[-1] == "all others"
    assert np.sum(shown) == counts.sum()
    assert np.sum(shown[titles.index("c7")]) == counts[7].sum()


def test_the_matrix_of_few_classes_is_shown_whole() -> None:
    assert most_mistaken([[3, 1], [0, 4]], ["a", "b"]) == ([[3, 1], [0, 4]], ["a", "b"])
