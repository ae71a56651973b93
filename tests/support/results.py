"""Results of trainings that never were."""

from collections.abc import Sequence
from typing import Any

from trainer.results import Epoch, Result


def result(history: Sequence[Epoch] = (), **figures: Any) -> Result:
    """Make the result of a finished training, the last of whose epochs is the best."""
    known: dict[str, Any] = {
        "outcome": "finished",
        "history": tuple(history),
        "best_epoch": len(history) or None,
        "val_accuracy": history[-1].val_accuracy if history else None,
        "val_loss": 1.0,
        "test_accuracy": 0.5,
        "test_loss": 1.0,
        "parameters": 1000,
        "seconds": 1.0,
        "images_per_second": 1.0,
        "device": "none",
        "precision": "fp32",
        "bank": 1,
        "latency_ms": 1.0,
        "state": None,
    }
    return Result(**known | figures)
