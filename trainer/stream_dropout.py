"""Dropout of any module, with masks that are a function of (seed, step) as those of our layers.

A torch function mode sees every call of `torch.nn.functional.dropout`, by `nn.Dropout` or by the
user's code, and the dropout inside attention, and draws the masks from a stream of the member's. So
a member drops the same values alone and in a bank (under `torch.vmap`, where the keys are mapped).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from trainer.streams import Stream, threshold

_CHANNELS = (F.dropout1d, F.dropout2d, F.dropout3d)
_ATTENTION = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


class StreamDropout(TorchFunctionMode):
    """Draws the masks of every dropout within.

    Args:
        stream: of the bank.
        keys: of the step and of one member, int32 [2].
        mapped: whether it is under `torch.vmap`, which knows torch's attention as a loop only.
    """

    def __init__(self, stream: Stream, keys: Tensor, *, mapped: bool = False) -> None:
        super().__init__()
        self.stream, self.keys, self.mapped = stream, keys, mapped
        self.calls = 0  # of this pass: each has masks of its own

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute what torch would, but for the masks."""
        del types
        named = dict(kwargs or {})
        if func is F.dropout or func in _CHANNELS:
            return self._dropout(*args, channels=func is not F.dropout, **named)
        if func is F.multi_head_attention_forward:
            return self._within(F.multi_head_attention_forward)(*args, **named)
        if func is F.scaled_dot_product_attention:
            return self._attention(func, *args, **named)
        return func(*args, **named)

    def _within(self, func: Any) -> FunctionType:
        """Return a function of torch's whose own dropout is ours: no mode sees what it calls."""
        names = {
            "has_torch_function": lambda _: False,
            "dropout": self._dropout,
            "scaled_dot_product_attention": partial(
                self._attention, F.scaled_dot_product_attention
            ),
        }
        inner = FunctionType(func.__code__, {**func.__globals__, **names})
        inner.__defaults__, inner.__kwdefaults__ = func.__defaults__, func.__kwdefaults__
        return inner

    def _dropout(
        self,
        input: Tensor,  # torch's name
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
        *,
        channels: bool = False,
    ) -> Tensor:
        if not training or p == 0:
            return input
        shape = (*input.shape[:2], *(1 for _ in input.shape[2:])) if channels else input.shape
        mask = self._mask(shape, p, input.dtype)
        return input.mul_(mask) if inplace else input * mask

    def _mask(self, shape: Sequence[int], p: float, dtype: torch.dtype) -> Tensor:
        """Return a mask of this shape: 0 with probability p, else 1 / (1 - p)."""
        if p >= 1:
            return torch.zeros(tuple(shape), dtype=dtype, device=self.keys.device)
        rows = shape[0] if shape else 1
        keys = self.stream.part(self.keys, self.calls)[None]  # [1, 2]
        self.calls += 1
        numbers = self.stream.numbers(keys, rows, math.prod(shape[1:]))
        kept = (numbers >= threshold(p)).view(tuple(shape))
        return kept.to(dtype) * (1 / (1 - p))

    def _attention(self, func: Callable[..., Any], *args: Any, **named: Any) -> Tensor:
        """Attention whose shares may be dropped; alone and without dropout it is torch's."""
        given = {**dict(zip(_ATTENTION, args, strict=False)), **named}
        p = given.pop("dropout_p", 0.0)
        if not (p or self.mapped) or given.pop("enable_gqa", False):
            return func(*args, **named)  # type: ignore[no-any-return] # torch's own
        query, key, mask = given["query"], given["key"], given.get("attn_mask")
        scale = given.get("scale")
        scores = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if given.get("is_causal"):
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if mask is not None:
            scores = (
                scores.masked_fill(~mask, -math.inf) if mask.dtype is torch.bool else scores + mask
            )
        shares: Tensor = self._dropout(scores.softmax(-1), p)
        return shares @ given["value"]  # type: ignore[no-any-return] # a tensor
