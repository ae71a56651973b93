"""A training of one's own: scikit-learn's `MLPClassifier` on its handwritten digits."""

from collections.abc import Callable, Mapping
from typing import Any

from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier


def train(config: Mapping[str, Any], report: Callable[..., bool]) -> dict[str, Any]:
    """Train for `epochs` epochs; return figures of the test images."""
    images, labels = load_digits(return_X_y=True)
    images = images / 16
    # The test images are the same in every training; the seed draws the validation images.
    rest, test, rest_labels, test_labels = train_test_split(
        images, labels, test_size=360, random_state=0, stratify=labels
    )
    training, validation, training_labels, validation_labels = train_test_split(
        rest, rest_labels, test_size=0.2, random_state=config["seed"], stratify=rest_labels
    )
    network = MLPClassifier(
        (config["hidden"],),
        alpha=config["alpha"],
        learning_rate_init=config["learning_rate"],
        random_state=config["seed"],
    )
    for epoch in range(1, config["epochs"] + 1):
        network.partial_fit(training, training_labels, classes=range(10))
        accuracy = network.score(validation, validation_labels)
        if report(epoch, accuracy, train_loss=network.loss_):
            break
    predicted = network.predict(test)
    return {
        "test_accuracy": (predicted == test_labels).mean(),
        "confusion": confusion_matrix(test_labels, predicted),
        "parameters": sum(weights.size for weights in network.coefs_ + network.intercepts_),
    }
