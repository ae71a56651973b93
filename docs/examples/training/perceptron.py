"""A training in a program of its own, without a library: a perceptron on points in a plane."""

import json
import random
import sys


def points(count, rng):
    """Points of two classes, of which some lie on the wrong side of the line."""
    drawn = [(rng.gauss(0, 1), rng.gauss(0, 1)) for _ in range(count)]
    return [(x, y, 1 if x + 2 * y + rng.gauss(0, 0.3) > 0 else -1) for x, y in drawn]


def accuracy(weights, data):
    """The share of the points on the side of their class."""
    return sum((weights[0] * x + weights[1] * y) * label > 0 for x, y, label in data) / len(data)


config = json.loads(sys.stdin.readline())
rng = random.Random(config["seed"])
training, validation, test = (points(count, rng) for count in (200, 500, 500))
weights = [0.0, 0.0]
for epoch in range(1, config["epochs"] + 1):
    for x, y, label in training:
        if (weights[0] * x + weights[1] * y) * label <= config["margin"]:
            weights = [weights[0] + label * x, weights[1] + label * y]
    print(json.dumps({"epoch": epoch, "val_accuracy": accuracy(weights, validation)}), flush=True)
    if json.loads(sys.stdin.readline())["stop"]:
        break
print(json.dumps({"result": {"test_accuracy": accuracy(weights, test), "parameters": 2}}))
