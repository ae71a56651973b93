"""Whether K modules of the user's, computed together, are what each of them is alone.

Nothing is assumed of a module: before a bank of them is trained, its first steps are taken in
double precision, together and one by one, on the same images, and all that comes of it is compared.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from trainer import user_code
from trainer.bank import Bank
from trainer.config import TrainConfig
from trainer.data import ImageData
from trainer.module_bank import ModuleBank

STEPS = 3
LOSS, STATE = 1e-10, 1e-7  # relative; Adam divides small differences by small gradients


def obstacle(configs: Sequence[TrainConfig], data: ImageData, device: torch.device) -> str | None:
    """Say why modules cannot be trained as one bank; None: they can, or are ours, or are alone.

    Raises:
        UserError: a module cannot be trained at all.
    """
    if len(configs) < 2 or not configs[0].has_foreign_network:
        return None
    exact = [config.replace(precision="fp64") for config in configs]
    alone = [Bank([config], data, device) for config in exact]
    before = _python_state(alone[0].network)
    batches = torch.cat([bank.order(1)[:STEPS] for bank in alone], dim=2)  # [S, B, K]
    losses = [
        torch.stack(
            [bank.train_step(i, batch[:, k : k + 1])[0, 0] for i, batch in enumerate(batches)]
        )
        for k, bank in enumerate(_training(alone))
    ]
    changed = [
        name for name, value in _python_state(alone[0].network).items() if before.get(name) != value
    ]
    if changed:
        return f"{changed[0].removeprefix('.')} keeps state in Python, outside of buffers"
    try:
        (together,) = _training([Bank(exact, data, device)])
        theirs = torch.stack([together.train_step(i, batch)[0] for i, batch in enumerate(batches)])
        return _difference(together, alone, theirs, torch.stack(losses, dim=1))
    except Exception as error:  # of any kind: then they are trained one by one
        return _reason(error)


def _reason(error: Exception) -> str:
    """Say why torch cannot map a module: without its advice to report that to PyTorch."""
    words = f"{type(error).__name__}: {error}".splitlines()[0].partition(". ")[0].removesuffix(".")
    return user_code.placed(words, error)


def _training(banks: Sequence[Bank]) -> Sequence[Bank]:
    for bank in banks:
        bank.network.train()
    return banks


def _difference(
    together: Bank, alone: Sequence[Bank], theirs: torch.Tensor, expected: torch.Tensor
) -> str | None:
    """Compare losses [S, K], then the weights after the steps, then what is made of images."""
    for step, (a, b) in enumerate(zip(theirs, expected, strict=True), 1):
        if not torch.allclose(a, b, rtol=LOSS, atol=LOSS, equal_nan=True):
            return f"its loss in step {step} differs by {float((a - b).abs().max()):.1e} from alone"
    for k, bank in enumerate(alone):
        state = together.state(k)
        for name, tensor in bank.state(0).items():
            if not torch.allclose(state[name].double(), tensor.double(), STATE, STATE, True):
                return f"{name} differs after {len(theirs)} steps from alone"
    indices = together.val_indices[:64]
    images = together.data.train_images
    logits = torch.cat([values for _, values in together.logits(images, indices)])
    each = [next(b.logits(images, indices[:, k : k + 1]))[1] for k, b in enumerate(alone)]
    same = torch.allclose(logits, torch.cat(each, dim=1), STATE, STATE, True)
    return None if same else "its answers differ in evaluation from alone"


def _python_state(network: nn.Module) -> dict[str, Any]:
    """Return the plain values that modules keep beside their parameters and buffers."""
    assert isinstance(network, ModuleBank)
    hidden = {"_parameters", "_buffers", "_modules", "training"}
    return {
        f"{name}.{key}": _plain(value)
        for name, module in network.module.named_modules()
        for key, value in vars(module).items()
        if key not in hidden
    }


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, int, float, str, tuple, type(None))):
        return repr(value)
    return id(value), len(value) if isinstance(value, (list, dict, set)) else 0
