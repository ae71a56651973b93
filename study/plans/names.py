"""Names that others give to settings, read as fields of `TrainConfig`."""

import re

from trainer.config import FIELD_NAMES


def squeeze(name: str) -> str:
    """Return a name's letters and digits, in lower case."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


_FIELDS = {
    **{squeeze(name): name for name in FIELD_NAMES},
    "batch": "batch_size",
    "bs": "batch_size",
    "trainbatchsize": "batch_size",
    "lr": "learning_rate",
    "wd": "weight_decay",
    "opt": "optimizer",
    "optimiser": "optimizer",
    "model": "architecture",
    "network": "architecture",
    "bn": "batchnorm",
    "batchnormalization": "batchnorm",
    "kernel": "kernel_size",
    "aug": "augmentation",
    "augment": "augmentation",
    "normalisation": "normalization",
    "normalize": "normalization",
    "lrschedule": "schedule",
    "scheduler": "schedule",
}


def field_of(name: str) -> str:
    """Return the field of `TrainConfig` that a table or a column is called after, else its name."""
    return _FIELDS.get(squeeze(name.rpartition(".")[2]), name)
