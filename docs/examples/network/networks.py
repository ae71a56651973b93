"""Two networks of one's own: a small CNN and a small vision transformer."""

import torch
from torch import Tensor, nn

from trainer.config import TrainConfig


def cnn(config: TrainConfig, classes: int, channels: int) -> nn.Module:
    """Two convolutions with batch norm, and dropout before the classifier."""
    width = int(config.model_options["width"])
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(float(config.model_options["dropout"])),
        nn.Linear(8 * width, classes),
    )


class ViT(nn.Module):
    """Patches of `patch` pixels, two encoder layers of `heads` heads, the mean of the tokens."""

    def __init__(self, config: TrainConfig, side: int, classes: int, channels: int) -> None:
        super().__init__()
        patch, heads = int(config.model_options["patch"]), int(config.model_options["heads"])
        tokens, width = (side // patch) ** 2, 32
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, width))
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2)
        self.classifier = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, side, side] -> logits [B, classes]."""
        tokens = self.patches(images).flatten(2).mT + self.positions
        logits: Tensor = self.classifier(self.encoder(tokens).mean(1))
        return logits
