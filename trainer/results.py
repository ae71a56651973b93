"""What comes out of a training: figures per epoch and per member. No torch is loaded here."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]  # one member's weights and batch-norm statistics, by name
Inference = dict[str, dict[str, dict[str, float]]]  # device -> batch size -> figures


@dataclass(frozen=True)
class Epoch:
    """One member's figures of one epoch. Losses are means over images; `seconds` is its share.

    What a training that is not ours does not tell is None.
    """

    epoch: int  # from 1
    train_loss: float | None
    train_accuracy: float | None
    val_loss: float | None
    val_accuracy: float
    learning_rate: float | None  # of the epoch's last step
    seconds: float

    @property
    def is_finite(self) -> bool:
        """Whether its losses and its accuracy are numbers: else the training has diverged."""
        figures = (self.train_loss, self.val_loss, self.val_accuracy)
        return all(value is None or math.isfinite(value) for value in figures)


@dataclass(frozen=True)
class Cost:
    """What a training will cost, measured over a few steps."""

    seconds: float
    parameters: int
    obstacle: str | None = None  # why modules of the user's cannot be one bank


@dataclass(frozen=True)
class Result:
    """What a member's training came to. Test figures are None unless it ran to its end."""

    outcome: str  # finished | early-stopped | stopped | diverged
    history: tuple[Epoch, ...]
    best_epoch: int | None  # with the highest validation accuracy, the first of equals
    val_accuracy: float | None
    val_loss: float | None
    test_accuracy: float | None
    test_loss: float | None
    parameters: int | None
    # The member's share of the bank's time, evaluation included; the timing of inference is not.
    seconds: float
    images_per_second: float | None  # of the whole bank, training only
    device: str
    precision: str | None
    bank: int  # members at the start
    latency_ms: float | None  # median time of the network for one image, where it was trained
    state: State | None = field(repr=False)  # of the best epoch, on the CPU
    inference: Inference | None = None  # latency and throughput, see `trainer.latency`
    multiply_adds: int | None = None  # of the network for one image
    model_bytes: int | None = None  # size of the weights' file, fp32
    weights_sha256: str | None = None  # of the weights' file; None: no file is to be kept
    confusion: dict[str, list[list[int]]] | None = None  # {"test": [true class][predicted class]}
    convolutions: str = "grouped"  # of the bank, see `trainer.convolutions`
    # Test images it was most wrong about, see `trainer.misclassified`: too large for the database.
    misclassified: list[dict[str, Any]] | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but weights and images, JSON-ready."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        del values["state"], values["misclassified"]
        return {**values, "history": [dict(vars(epoch)) for epoch in self.history]}
