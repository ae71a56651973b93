"""Exponential moving averages of weights: what is validated, kept and tested of a member.

After step t (from 0) each average moves a share of the way to its weight: 1 - min(decay, (1 + t) /
(10 + t)), so that it forgets the start early (as in TensorFlow). Statistics of batch norms are
averaged as well. A member without averaging has a decay of 0: its averages are its weights.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from trainer.layers import by_member


class Averages:
    """The averages of a bank's tensors.

    Args:
        tensors: by name, [K*n, ...] each; the averages start as what they are.
        decays: of the members.
    """

    def __init__(self, tensors: Mapping[str, Any], decays: Sequence[float]) -> None:
        kept = {name: t for name, t in tensors.items() if isinstance(t, Tensor)}
        first = next(iter(kept.values()))
        floats = {name: t for name, t in kept.items() if t.is_floating_point()}
        self.sources = {name: tensor.detach() for name, tensor in floats.items()}
        self.of = {name: tensor.clone() for name, tensor in self.sources.items()}
        self.decays = torch.tensor(decays, device=first.device, dtype=torch.float64)  # [K]

    def update(self, step: Tensor) -> None:
        """Follow the weights, after step `step` (from 0, an integer [])."""
        t = step.to(torch.float64)
        shares = 1 - torch.minimum(self.decays, (1 + t) / (10 + t))  # [K]
        members = len(shares)
        for average, source in zip(self.of.values(), self.sources.values(), strict=True):
            if average.dim():
                own, new = by_member(average, members), by_member(source, members)
                own.lerp_(new, shares.to(own.dtype).view(-1, *[1] * (own.dim() - 1)))
            else:  # a number of a module alone
                average.lerp_(source, shares[0].to(average.dtype))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages where the weights are, to be read or changed there, for a while."""
        weights = [source.clone() for source in self.sources.values()]
        try:
            for source, average in zip(self.sources.values(), self.of.values(), strict=True):
                source.copy_(average)
            yield
        finally:
            for name, weight in zip(self.sources, weights, strict=True):
                self.of[name].copy_(self.sources[name])
                self.sources[name].copy_(weight)
