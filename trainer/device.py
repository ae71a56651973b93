"""Where and how precisely a network is trained."""

import ctypes
import sys
from functools import cache
from importlib.util import find_spec

import torch

from trainer.config import TrainConfig
from trainer.errors import UserError


def build_hint() -> str:
    """Say what to install, for an error's end, where PyTorch cannot use any GPU."""
    if torch.backends.cuda.is_built():
        return ""
    return (
        f"; PyTorch {torch.__version__} is a build for CPUs only: for a GPU install 'torch' from "
        "the index that pytorch.org names for its driver"
    )


def resolve(name: str) -> torch.device:
    """Return the device of a name: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        UserError: there is no such device here.
    """
    if name == "auto":
        return resolve("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if name == "cuda" or (kind == "cuda" and index.isascii() and index.isdigit()):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            here = f"cuda:0 to cuda:{count - 1}" if count else "no CUDA device"
            raise UserError(f"device = {name!r}: this machine has cpu and {here}{build_hint()}")
        return torch.device("cuda", int(index or 0))
    raise UserError(f"device = {name!r}: choose auto, cpu, cuda, or cuda:0,1,...")


def describe(device: torch.device) -> str:
    """Return the device's model name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''})"


def native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch offers no public name for these yet.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def has_triton(device: torch.device) -> bool:
    """Whether kernels in Triton run there: on GPUs, where torch is a build for them on Linux."""
    return device.type == "cuda" and triton_is_there()


@cache
def triton_is_there() -> bool:
    """Whether triton can be imported."""
    return find_spec("triton") is not None


def precision(config: TrainConfig, device: torch.device) -> str:
    """Return the precision that a config is trained in here: bf16, fp32 or fp64."""
    if config.precision != "auto":
        return config.precision
    return "bf16" if native_bf16(device) else "fp32"


def synchronise(device: torch.device) -> None:
    """Wait until the device has computed what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def use(device: torch.device) -> None:
    """Make a device this process's current one, with the arithmetic that precisions promise.

    A capture waits for the *current* device, so a worker on another one would open a context on the
    first. fp32 means fp32 (cuDNN takes TF32 by default), sums of bf16 products are fp32, and of
    cuDNN's kernels those are taken that give the same result every time.
    """
    if device.type != "cuda":
        return
    if device.index is not None:
        torch.cuda.set_device(device)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def prepare_process(threads: int) -> None:
    """Set a worker process up for training: OpenMP threads, and memory that is kept.

    glibc hands every large freed block back to the kernel and faults it in again at the next step;
    with raised thresholds the activations' memory stays with the process.
    """
    torch.set_num_threads(threads)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            trim_threshold, top_pad, mmap_threshold = -1, -2, -3
            # Some versions of glibc take half a heap at most.
            libc.mallopt(mmap_threshold, 1 << 30) or libc.mallopt(mmap_threshold, 1 << 25)
            libc.mallopt(trim_threshold, 1 << 30)
            libc.mallopt(top_pad, 1 << 26)
