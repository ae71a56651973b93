"""A CUDA graph of the CPU: the operations of a work, recorded with their tensors and run again.

As a CUDA graph does, the replay runs the same operations on the same memory, without Python: what
Python would have counted, looked up or decided meanwhile is frozen.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainer.cuda_graph import CudaStream

# Writes its running statistics, though its schema does not say so.
SILENT = {"aten::native_batch_norm"}


class HostWaitError(RuntimeError):
    """Something was read by the host inside a capture."""


class _Recorder(TorchDispatchMode):
    """Keeps every operation with its tensors, and what the memory held before it was changed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.made: set[int] = set()  # storages that the work itself made
        self.before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Do an operation and keep it."""
        del types
        kwargs = kwargs or {}
        if func._schema.name == "aten::_local_scalar_dense":
            raise HostWaitError("the host reads a number inside a capture")
        given = _tensors((args, kwargs))
        changes = func._schema.is_mutable or func._schema.name in SILENT
        if changes:
            self._remember(given)
        result = func(*args, **kwargs)
        storages = {_address(tensor) for tensor in given}
        fresh = [tensor for tensor in _tensors(result) if _address(tensor) not in storages]
        self.made |= {_address(tensor) for tensor in fresh}
        if fresh or changes:  # else it is another look at the same memory
            self.operations.append((func, args, kwargs, result))
        return result

    def _remember(self, tensors: list[Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self.made | self.before.keys():
                self.before[storage.data_ptr()] = (storage, storage.clone())

    def undo(self) -> None:
        """Give all memory that was there before the values that it had."""
        for storage, values in self.before.values():
            storage.copy_(values)


def cpu_graph(work: Callable[[], None], stream: CudaStream) -> Callable[[], None]:
    """Record a work without effect; return its replay. A `Capture` for `Program`."""
    del stream
    with torch.autograd.set_multithreading_enabled(False), _Recorder() as recorder:
        work()
    recorder.undo()  # a capture computes nothing

    def replay() -> None:
        with torch.inference_mode():
            for func, args, kwargs, result in recorder.operations:
                again = func(*args, **kwargs)
                given = {_address(tensor) for tensor in _tensors((args, kwargs))}
                for old, new in zip(_tensors(result), _tensors(again), strict=True):
                    if _address(old) not in given:
                        old.copy_(new)

    return replay


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
