"""What is known of the data sets without reading them."""

from collections.abc import Mapping
from typing import NamedTuple


class Facts(NamedTuple):
    """Sizes, and the mean and standard deviation of the training images' pixels in [0, 1]."""

    train_images: int
    test_images: int
    classes: int
    mean: float
    std: float


FACTS: Mapping[str, Facts] = {
    "fashion-mnist": Facts(60_000, 10_000, 10, 0.2860, 0.3530),
    "mnist": Facts(60_000, 10_000, 10, 0.1307, 0.3081),
    "kmnist": Facts(60_000, 10_000, 10, 0.1918, 0.3483),
    "digits": Facts(1438, 359, 10, 0.3055, 0.3760),
}
