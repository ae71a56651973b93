"""What a network answers: its logits, with `test_time_flip` those of image and mirror image."""

from torch import Tensor, nn


def answer(network: nn.Module, x: Tensor, *, flip: bool) -> Tensor:
    """Compute logits in the precision of `x`, which are images [B, C, H, W] as the network takes.

    With `flip` the answer is the mean of the logits of an image and of its mirror image. So it is
    in validation, in the test, in what is timed, and in what is exported.
    """
    logits: Tensor = network(x).to(x.dtype)
    return (logits + network(x.flip(3)).to(x.dtype)) / 2 if flip else logits
