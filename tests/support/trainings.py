"""Small trainings on digits."""

from trainer.config import TrainConfig
from trainer.results import Result


def small(**changes: object) -> TrainConfig:
    values = {"dataset": "digits", "width": 8, "epochs": 3, "batch_size": 32, "precision": "fp32"}
    return TrainConfig.from_dict({**values, **changes})


def losses(result: Result) -> list[float]:
    pairs = ((epoch.train_loss, epoch.val_loss) for epoch in result.history)
    return [loss for pair in pairs for loss in pair if loss is not None]


MIXED = [
    {"seed": 0, "augmentation": "none"},
    {"seed": 1, "learning_rate": 1e-3, "dropout": 0.5, "augmentation": "flip+erase"},
    {"seed": 2, "weight_decay": 1e-2, "dropout": 0.0, "augmentation": "translate+rotate"},
    {"seed": 0, "label_smoothing": 0.1, "schedule": "cosine", "augmentation": "crop"},
]
