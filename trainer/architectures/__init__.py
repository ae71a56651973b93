"""The architectures, each a function of a bank's configs, the images' side and the classes.

Their networks map [B, K, H, W] to logits [B, K, classes]. None of them ends in a softmax: the loss
is a cross entropy, which contains it (one of the reference projects has it twice).
"""

from collections.abc import Callable, Sequence

from torch import nn

from trainer.architectures.convnet import ConvNet
from trainer.architectures.mobilenet import mobilenet_v2
from trainer.architectures.plain import conv_pairs, convnet3, lenet, toy, vgg_like
from trainer.architectures.resnet import resnet18, resnet20, resnet32, resnet_like
from trainer.config import TrainConfig

Architecture = Callable[[Sequence[TrainConfig], int, int], nn.Module]

ARCHITECTURES: dict[str, Architecture] = {
    "convnet": ConvNet,
    "convnet3": convnet3,
    "lenet": lenet,
    "vgg_like": vgg_like,
    "resnet_like": resnet_like,
    "mobilenet_v2": mobilenet_v2,
    "toy": toy,
    "conv_pairs": conv_pairs,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "resnet32": resnet32,
}
