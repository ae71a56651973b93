"""A bank on a GPU of paper: every kernel is dispatched as on CUDA, none is computed.

Fake tensors (shapes, strides, devices; no values) go through CUDA's autocast and autograd.
A build of torch without CUDA needs `gpu.cpp` for it, which this process keeps for its life: so it
runs in one of its own (`tests.support.paper.examine`). Where nothing compiles that, tensors of the
device `meta` take the same way through our code, in the precision of the weights: meta has no
autocast, so what is not seen is the casts.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA, META = torch.device("cuda", 0), torch.device("meta")
# Operations that start no kernel: other looks at the same memory, and memory without values.
FREE = {
    "view", "_unsafe_view", "t", "transpose", "permute", "select", "slice", "unsqueeze", "expand",
    "detach", "unbind", "split", "split_with_sizes", "alias", "as_strided", "squeeze", "unflatten",
    "diagonal", "lift_fresh", "empty", "empty_like", "empty_strided", "new_empty",
    "new_empty_strided", "device", "_reshape_alias",
}  # fmt: skip
WAITS = {"_local_scalar_dense", "item", "nonzero"}  # for the host, or a shape that data decides


def compiler() -> str | None:
    """Return the C++ compiler of this machine."""
    return shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")


def compile_into(folder: Path) -> Path:
    """Compile `gpu.cpp`; return the library."""
    root, library = Path(torch.__file__).parent, folder / "paper_gpu.so"
    include = [f"-I{root / 'include'}", f"-I{root / 'include/torch/csrc/api/include'}"]
    source = Path(__file__).with_name("gpu.cpp")
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    flags = ["-shared", "-fPIC", "-O1", "-DNDEBUG", "-w", "-std=c++20", abi]
    linked = [f"-L{root / 'lib'}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{root / 'lib'}"]
    command = [compiler() or "c++", *flags, *include, str(source), *linked, "-o", str(library)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return library


@cache
def pretend(library: Path | None) -> torch.device:
    """Make this process believe that it has a GPU, for tensors without values; return it.

    Args:
        library: what `compile_into` made; None: the GPU is torch's device meta.
    """
    os.environ["FMNIST_CUDA_GRAPHS"] = "0"
    torch.set_num_threads(1)
    if library is None:
        vars(torch)["autocast"] = lambda *_, **__: nullcontext()
        vars(torch)["is_autocast_enabled"] = lambda _: False
        return META
    if not torch.cuda._is_compiled():
        ctypes.CDLL(str(library)).pretend()
    for module in (sys.modules["torch.cuda.amp.common"], sys.modules["torch.amp.autocast_mode"]):
        if "amp_definitely_not_available" in vars(module):
            vars(module)["amp_definitely_not_available"] = lambda: False
    torch.cuda.is_bf16_supported = lambda *_, **__: True
    torch.cuda.set_device = lambda _: None  # type: ignore[assignment]
    return CUDA


def mode(gpu: torch.device) -> AbstractContextManager[Any]:
    """Return a mode in which all tensors are fake; those of meta are so without one."""
    if gpu == META:
        return nullcontext()
    return FakeTensorMode(allow_non_fake_inputs=True, allow_fallback_kernels=False)


class Watch(TorchDispatchMode):
    """Counts the kernels of what happens inside, and objects to what no CUDA graph can hold."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels: Counter[str] = Counter()
        self.objections: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Let one operation happen."""
        del types
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        if name.startswith("_fused_"):  # they have no fake kernel; they work in place
            self.objections += _fused_objections(name, args, kwargs)
            out = None
        else:
            out = func(*args, **kwargs)
        inputs, outputs = _tensors((args, kwargs)), _tensors(out)
        kinds = {tensor.device.type for tensor in inputs + outputs}
        if name in WAITS:
            self.objections.append(f"{name}: the host waits, or data decides a shape")
        if name not in FREE and str(func) != "aten.view.dtype" and kinds:
            if kinds - {"cpu"}:
                self.kernels[name] += 1
            else:
                self.objections.append(f"{name}: computed on the CPU")
        if len(kinds) > 1 and _mixes(name, inputs, outputs):
            self.objections.append(f"{name}: {sorted(kinds)} together")
        return out


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _mixes(name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
    """Whether devices meet in more than a number of the host's that a kernel is given."""
    on_host = [tensor for tensor in inputs if tensor.device.type == "cpu"]
    copies = name in ("_to_copy", "copy_")
    return (
        copies
        or any(tensor.dim() for tensor in on_host)
        or any(tensor.device.type == "cpu" for tensor in outputs)
    )


def _fused_objections(name: str, args: Any, kwargs: Mapping[str, Any]) -> Iterator[str]:
    """What CUDA's fused optimisers refuse or freeze (ForeachUtils.h, FusedAdamKernel.cu)."""
    lists = [arg for arg in args if isinstance(arg, list | tuple) and arg]
    steps = lists.pop() if "adam" in name else []
    first = lists[0]
    for tensors in lists:
        if len(tensors) != len(first):
            yield f"{name}: lists of different lengths"
        for weight, tensor in zip(first, tensors, strict=False):
            sizes = zip(weight.shape, weight.stride(), tensor.stride(), strict=True)
            if (weight.shape, weight.dtype, weight.device) != (
                tensor.shape,
                tensor.dtype,
                tensor.device,
            ) or any(size != 1 and mine != other for size, mine, other in sizes):
                yield f"{name}: a gradient or moment in another layout than its weight"
    if any(step.device != first[0].device or step.dtype != torch.float32 for step in steps):
        yield f"{name}: a counter of steps on another device"
    rate = kwargs.get("lr")
    if not isinstance(rate, Tensor):
        yield f"{name}: a learning rate that is a number, frozen into the graph"
    elif (rate.device, rate.dtype) != (first[0].device, torch.float32):
        yield f"{name}: a learning rate on another device"


def watched(work: Callable[[], None], *, before: int = 0) -> Watch:
    """Do a piece of work on paper so often, then once more under watch."""
    with torch.autograd.set_multithreading_enabled(False):  # the backward pass is watched too
        for _ in range(before + 1):
            watch = Watch()
            with watch:
                work()
    return watch
