"""Kernels of our own for CPUs: in bf16, for training only.

PyTorch's operations on CPUs leave most of a small network's step to memory traffic, and its
convolutions take every multiplication that their definition has. The C beside this file computes
the same functions in fewer passes and with fewer multiplications, each on one thread. It is
compiled at installation, for x86 processors with AVX512-BF16; without a compiler or on other
processors nothing is lost but speed: PyTorch's own operations do the same work.

Evaluation always takes PyTorch's operations, so that a network's figures do not depend on where it
was trained.
"""

import importlib
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fmnist_common.environment import variable
from trainer.errors import UserError, choose

LANES = 16  # the kernels take numbers of channels that are multiples of it
THREADS = 2  # on more of them PyTorch's operations are about as fast, or faster
SWITCH = "NATIVE"  # FMNIST_STUDY_...: 1 (default) or 0, to leave all work to PyTorch


@cache
def missing() -> str | None:
    """Say why the kernels cannot be used here, or return None where they can.

    Raises:
        UserError: the environment's choice is no valid one.
    """
    name, value = variable(SWITCH)
    if value not in ("", "0", "1"):
        raise UserError(choose(name, value, ("0", "1")))
    if value == "0":
        return f"{name} = 0"
    # torch offers no public name for this yet.
    if not torch.cpu._is_avx512_bf16_supported():
        return "this processor has no AVX512-BF16"
    try:
        importlib.import_module("trainer.native._kernels")
    except ImportError:
        return "not compiled: install again where there is a C compiler"
    return None


def outdated() -> bool:
    """Whether the C beside this file was changed since it was compiled (a development copy)."""
    compiled = importlib.import_module("trainer.native._kernels").__file__
    here = Path(__file__).parent
    # An installed package brings its sources along, in whatever order they were unpacked.
    if compiled is None or not (here.parents[1] / "pyproject.toml").exists():
        return False
    changed = max((source.stat().st_mtime for source in here.glob("*.[ch]")), default=0.0)
    return changed > Path(compiled).stat().st_mtime


@cache
def kernels() -> Any:
    """Return the compiled module. Call only where `missing` finds nothing missing."""
    return importlib.import_module("trainer.native._kernels")


def wanted(x: Tensor) -> bool:
    """Whether a network trains on `x` with these kernels: autocast to bf16, on few threads."""
    return (
        x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and torch.get_num_threads() <= THREADS
        and missing() is None
    )


def address(tensor: Tensor | None) -> int:
    """Return where a tensor lies, as kernels want to know it; 0 for none."""
    return 0 if tensor is None else tensor.data_ptr()
