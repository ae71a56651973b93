"""A training of a user's in which things go wrong: what, its options say."""

import math
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def train(config: Mapping[str, Any], report: Callable[..., bool]) -> dict[str, float]:
    """Report the epochs of a course that the seed and `level` decide."""
    trouble, here = config["trouble"], config["level"] == 1 and config["seed"] == 0
    for epoch in range(1, config["epochs"] + 1):
        if here and epoch == 2:
            _trouble(trouble)
        figure = math.nan if here and epoch == 2 and trouble == "nan" else _accuracy(config, epoch)
        time.sleep(config["seconds"])
        if report(epoch, figure) and trouble != "deaf":
            break
    return {"test_accuracy": _accuracy(config, config["epochs"])}


def _accuracy(config: Mapping[str, Any], epoch: int) -> float:
    return 0.5 + 0.01 * epoch + 0.1 * int(config["level"]) + 0.001 * int(config["seed"])


def _trouble(trouble: str) -> None:
    if trouble == "raise":
        raise ValueError("a bad\nday")
    if trouble == "exit":
        raise SystemExit("enough")
    once = Path("happened")
    if trouble in ("die", "hang") and not once.exists():
        once.touch()
        if trouble == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600)
