"""Pre-activation residual networks for images of about 32 px: Wide ResNets, and PreAct ResNet-18 with a CIFAR stem."""

import torch.nn.functional as F
from torch import Tensor, nn

from raycnn.models.resnet import drop_branch, drop_rates


def wide_resnet(depth: int, widening: int, dropout: float = 0.0, stochastic_depth: float = 0.0) -> "PreActResNet":
    """WRN-depth-widening: 3 stages of (depth - 4) / 6 blocks. Zagoruyko & Komodakis 2016, arXiv:1605.07146, table 1."""
    blocks, rest = divmod(depth - 4, 6)
    assert rest == 0, "depth is 6 n + 4"
    widths = (16 * widening, 32 * widening, 64 * widening)
    return PreActResNet(stem=16, widths=widths, blocks=blocks, dropout=dropout, stochastic_depth=stochastic_depth)


def preact18(dropout: float = 0.0, stochastic_depth: float = 0.0) -> "PreActResNet":
    """ResNet-18 of pre-activation blocks, the network of mixup's CIFAR experiments (Zhang et al. 2018,
    arXiv:1710.09412, section 3.2), where a 3x3 convolution of stride 1 replaces the ImageNet stem."""
    widths = (64, 128, 256, 512)
    return PreActResNet(stem=64, widths=widths, blocks=2, dropout=dropout, stochastic_depth=stochastic_depth)


class PreActResNet(nn.Module):
    """Stages of pre-activation blocks, then norm and relu; every stage but the first halves the image.
    He et al. 2016, arXiv:1603.05027. dropout: see PreActBlock; stochastic_depth: see `resnet.drop_rates`."""

    def __init__(self, stem: int, widths: tuple[int, ...], blocks: int, dropout: float, stochastic_depth: float):
        super().__init__()
        self.width = widths[-1]
        self.stem = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        layers: list[nn.Module] = []
        width, rates = stem, drop_rates(stochastic_depth, len(widths) * blocks)
        for stage, out in enumerate(widths):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(PreActBlock(width, out, stride, dropout, rates[len(layers)]))
                width = out
        self.blocks = nn.Sequential(*layers)
        self.norm = nn.BatchNorm2d(width)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # He et al. 2015, arXiv:1502.01852
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, images: Tensor) -> Tensor:
        """(batch, 3, side, side) -> (batch, width)."""
        return F.relu(self.norm(self.blocks(self.stem(images))), inplace=True).mean((2, 3))


class PreActBlock(nn.Module):
    """norm, relu, conv, norm, relu, conv, plus the shortcut: the input, or where the shape changes a 1x1 convolution of
    what the first norm and relu made of it. dropout: share of the second convolution's inputs, Zagoruyko & Komodakis
    2016, arXiv:1605.07146, section 2.4."""

    def __init__(self, width: int, out: int, stride: int, dropout: float = 0.0, drop_rate: float = 0.0):
        super().__init__()
        self.dropout, self.drop_rate = dropout, drop_rate
        self.norm1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, out, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        changes = stride != 1 or width != out
        self.shortcut = nn.Conv2d(width, out, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, side, side) -> (batch, out, side / stride, side / stride)."""
        active = F.relu(self.norm1(x), inplace=True)
        y = F.relu(self.norm2(self.conv1(active)), inplace=True)
        y = self.conv2(F.dropout(y, self.dropout, self.training) if self.dropout else y)
        return drop_branch(y, self.drop_rate, self.training).add_(x if self.shortcut is None else self.shortcut(active))
