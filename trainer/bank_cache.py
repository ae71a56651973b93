"""A captured bank, kept for the next job of the same form: then nothing is captured again.

Making a bank takes milliseconds; its first steps and the captures take as long as hundreds of
replayed ones. A graph replays on the memory that it was captured on, so a kept bank is given the
next members' weights, seeds, rates and splits where its own lie.
"""

from collections.abc import Sequence

import torch

from trainer.bank import Bank
from trainer.config import TrainConfig
from trainer.data import ImageData


class BankCache:
    """Keeps one bank, the last; where nothing is captured (on CPUs), none."""

    def __init__(self) -> None:
        self._kept: Bank | None = None

    def take(self, configs: Sequence[TrainConfig], data: ImageData, device: torch.device) -> Bank:
        """Return a bank at its start; the kept one if it fits, else that is freed.

        Raises:
            ValueError, UserError: as `Bank`.
        """
        kept, self._kept = self._kept, None
        fresh = Bank(configs, data, device)
        if kept is None or kept.data is not fresh.data or kept.form != fresh.form:
            return fresh
        kept.take_over(fresh)
        return kept

    def keep(self, bank: Bank) -> None:
        """Keep a bank whose training is over."""
        if bank.step_program.capture is not None:
            self._kept = bank
