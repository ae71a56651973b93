"""The architectures: which there are, what each reads of a config, and where it is built.

Their networks map images of C channels [B, K*C, H, W] to logits [B, K, classes]. None of them ends
in a softmax: the loss is a cross entropy, which contains it (one of the reference projects has it
twice). To add one, add its function to a file here and an entry below. No torch is loaded until a
network is built.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """A network that configs can name.

    `reads`: the network fields of a config that it reads; the others do not change its network.
    """

    place: str  # module of this package : a function or class
    reads: frozenset[str]

    def builder(self) -> Callable[..., Any]:
        """Return what makes a bank's network of its configs, and of side, classes, channels."""
        module, _, name = self.place.partition(":")
        build: Callable[..., Any] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        return build


def _at(place: str, reads: str) -> Architecture:
    return Architecture(place, frozenset(reads.split()))


ARCHITECTURES: Mapping[str, Architecture] = {
    "convnet": _at(
        "convnet:ConvNet",
        "depth width kernel_size batchnorm conv_bias dropout pooling activation residual "
        "head pool_steps block squeeze_excite",
    ),
    "convnet3": _at(
        "plain:convnet3", "width kernel_size batchnorm conv_bias dropout pooling activation"
    ),
    "lenet": _at("plain:lenet", "dropout pooling activation"),
    "vgg_like": _at("plain:vgg_like", "batchnorm conv_bias dropout pooling activation"),
    "resnet_like": _at("resnet:resnet_like", "conv_bias activation stem"),
    "mobilenet_v2": _at("mobilenet:mobilenet_v2", "dropout"),
    "toy": _at("plain:toy", "activation"),
    "conv_pairs": _at("plain:conv_pairs", "batchnorm conv_bias activation"),
    "resnet18": _at("resnet:resnet18", "pretrained"),
    "resnet20": _at("resnet:resnet20", "activation stem"),
    "resnet32": _at("resnet:resnet32", "activation stem"),
}
