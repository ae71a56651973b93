"""The images that a network is most wrong about, found where the test set is evaluated."""

import base64
import json
from pathlib import Path

import torch

from study.run.executors import Job, WorkerSpec
from study.run.executors.worker import Worker
from trainer import data
from trainer.config import TrainConfig
from trainer.evaluate import probabilities
from trainer.misclassified import MOST
from trainer.networks import Networks
from trainer.train import train

CONFIG = TrainConfig(epochs=1, width=8, seed=1)


def test_the_most_confident_mistakes_are_those_of_the_best_weights() -> None:
    digits = data.load("digits", None)
    result = train([CONFIG, CONFIG.replace(seed=2)], digits)[0]
    assert result.state is not None
    assert result.misclassified is not None

    networks = Networks.trained(CONFIG, result.state, digits, torch.device("cpu"))
    given = probabilities(networks, digits.test_images)
    labels = digits.test_labels.numpy()
    predicted = given.argmax(axis=1)
    wrong = [index for index in range(len(labels)) if predicted[index] != labels[index]]
    wrong.sort(key=lambda index: -given[index, predicted[index]])

    assert len(wrong) > MOST
    assert [image["index"] for image in result.misclassified] == wrong[:MOST]
    first = result.misclassified[0]
    assert (first["label"], first["predicted"]) == (labels[wrong[0]], predicted[wrong[0]])
    assert abs(first["probability"] - given[wrong[0]].max()) < 1e-6
    assert base64.b64decode(first["pixels"]) == digits.test_images[wrong[0]].numpy().tobytes()


def test_the_images_lie_beside_the_weights_and_not_in_the_trial(tmp_path: Path) -> None:
    worker = Worker(WorkerSpec("cpu", 1, "digits", None))
    path = tmp_path / "best.safetensors"
    (result,) = worker.train(Job((CONFIG,), (path,)), lambda _: ())

    about = json.loads(path.with_suffix(".json").read_text())
    assert len(about["confused"]) == MOST
    assert about["confused"][0].keys() == {"index", "label", "predicted", "probability", "pixels"}
    assert "confused" not in about["result"]
    assert result.misclassified is None
