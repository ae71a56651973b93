"""torchvision beside a CPU-only build of torch.

torchvision's Python part registers fake kernels for operators of its compiled part when it is
imported, and fails where that part does not match torch's build (`operator torchvision::nms does
not exist`). We use the pure-Python part alone (downloader, ResNet), so the operators need only
exist.
"""

from functools import cache
from types import ModuleType

import torch

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@cache
def torchvision() -> ModuleType:
    """Import torchvision; where its compiled operators are missing, define their schemas first."""
    try:
        import torchvision as module
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        # Kept for the life of the process: an operator lives as long as its library object.
        _define_operators()
        import torchvision as module
    return module  # type: ignore[no-any-return] # torchvision is untyped


_libraries: list[torch.library.Library] = []


def _define_operators() -> None:
    library = torch.library.Library("torchvision", "DEF")
    for schema in _OPERATORS:
        library.define(schema)
    _libraries.append(library)
