"""Residual networks for images of about 32 px: those of He et al. for CIFAR, and ResNet-18 with a CIFAR stem."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cifar_resnet(depth: int, stochastic_depth: float = 0.0) -> "ResNet":
    """ResNet-20, 32 or 56: 3 stages of (depth - 2) / 6 blocks. He et al. 2016, arXiv:1512.03385, section 4.2."""
    blocks, rest = divmod(depth - 2, 6)
    assert rest == 0, "depth is 6 n + 2"
    return ResNet(stem=16, widths=(16, 32, 64), blocks=blocks, projection=False, stochastic_depth=stochastic_depth)


def resnet18(stochastic_depth: float = 0.0) -> "ResNet":
    """11.17 M parameters with a head for 10 classes. He et al. 2016, table 1, where a 3x3 convolution of stride 1
    replaces the ImageNet stem of stride 4, as is usual for CIFAR (DeVries & Taylor 2017)."""
    widths = (64, 128, 256, 512)
    return ResNet(stem=64, widths=widths, blocks=2, projection=True, stochastic_depth=stochastic_depth)


def resnet50(stochastic_depth: float = 0.0) -> "ImageNetResNet":
    """25.56 M parameters with a head for 1000 classes. He et al. 2016, arXiv:1512.03385, table 1."""
    return ImageNetResNet(blocks=(3, 4, 6, 3), stochastic_depth=stochastic_depth)


class ResNet(nn.Module):
    """Stages of basic blocks; every stage but the first halves the image. projection: 1x1 convolutions as shortcuts
    where the shape changes (option B of the paper), else strided identity padded with zero channels (option A).
    stochastic_depth: see `drop_rates`."""

    def __init__(self, stem: int, widths: tuple[int, ...], blocks: int, projection: bool, stochastic_depth: float):
        super().__init__()
        self.width = widths[-1]
        self.stem = _conv3x3(3, stem, 1)
        self.norm = nn.BatchNorm2d(stem)
        layers: list[nn.Module] = []
        width, rates = stem, drop_rates(stochastic_depth, len(widths) * blocks)
        for stage, out in enumerate(widths):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(BasicBlock(width, out, stride, projection, rates[len(layers)]))
                width = out
        self.blocks = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # He et al. 2015, arXiv:1502.01852
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, images: Tensor) -> Tensor:
        """(batch, 3, side, side) -> (batch, width)."""
        return self.blocks(F.relu(self.norm(self.stem(images)), inplace=True)).mean((2, 3))


class BasicBlock(nn.Module):
    """conv, norm, relu, conv, norm, plus the shortcut, relu."""

    def __init__(self, width: int, out: int, stride: int, projection: bool, drop_rate: float = 0.0):
        super().__init__()
        self.stride, self.new_channels, self.drop_rate = stride, out - width, drop_rate
        self.conv1 = _conv3x3(width, out, stride)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = _conv3x3(out, out, 1)
        self.norm2 = nn.BatchNorm2d(out)
        self.shortcut = None
        if projection and (stride != 1 or width != out):
            self.shortcut = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, side, side) -> (batch, out, side / stride, side / stride)."""
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = drop_branch(self.norm2(self.conv2(y)), self.drop_rate, self.training)
        return F.relu(y.add_(self._shortcut(x)), inplace=True)

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.shortcut is not None:
            return self.shortcut(x)
        if self.new_channels == 0:
            return x
        x = x[:, :, :: self.stride, :: self.stride]
        before = self.new_channels // 2
        return F.pad(x, (0, 0, 0, 0, before, self.new_channels - before))


class ImageNetResNet(nn.Module):
    """Four stages of bottleneck blocks behind a stem that makes the image a quarter as wide; every stage but the first
    halves it again."""

    width = 2048

    def __init__(self, blocks: tuple[int, ...], stochastic_depth: float):
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(64)
        layers: list[nn.Module] = []
        width, rates = 64, drop_rates(stochastic_depth, sum(blocks))
        for stage, count in enumerate(blocks):
            inner = 64 * 2**stage
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(Bottleneck(width, inner, stride, rates[len(layers)]))
                width = 4 * inner
        self.blocks = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # He et al. 2015, arXiv:1502.01852
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, images: Tensor) -> Tensor:
        """(batch, 3, side, side) -> (batch, width)."""
        x = F.relu(self.norm(self.stem(images)), inplace=True)
        return self.blocks(F.max_pool2d(x, 3, stride=2, padding=1)).mean((2, 3))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each with norm, plus the shortcut, relu. The 3x3 one takes the stride, as
    everywhere since (Goyal et al. 2017, arXiv:1706.02677, section 5.1)."""

    def __init__(self, width: int, inner: int, stride: int, drop_rate: float = 0.0):
        super().__init__()
        self.drop_rate = drop_rate
        self.conv1, self.norm1 = nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.norm2 = _conv3x3(inner, inner, stride), nn.BatchNorm2d(inner)
        self.conv3, self.norm3 = nn.Conv2d(inner, 4 * inner, 1, bias=False), nn.BatchNorm2d(4 * inner)
        self.shortcut = None
        if stride != 1 or width != 4 * inner:
            self.shortcut = nn.Sequential(nn.Conv2d(width, 4 * inner, 1, stride, bias=False), nn.BatchNorm2d(4 * inner))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, side, side) -> (batch, 4 * inner, side / stride, side / stride)."""
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = F.relu(self.norm2(self.conv2(y)), inplace=True)
        y = drop_branch(self.norm3(self.conv3(y)), self.drop_rate, self.training)
        return F.relu(y.add_(x if self.shortcut is None else self.shortcut(x)), inplace=True)


def drop_rates(last: float, blocks: int) -> list[float]:
    """For each block the share of images for which it is but its shortcut: from last / blocks up to `last`.

    Stochastic depth with linear decay, Huang et al. 2016, arXiv:1603.09382, section 3.
    """
    return [last * (block + 1) / blocks for block in range(blocks)]


def drop_branch(branch: Tensor, rate: float, training: bool) -> Tensor:
    """In training, `branch` (batch, …) with the share `rate` of its images zeroed, from torch's random state, and the
    others scaled up, so that nothing need be scaled afterwards; a new tensor. Else `branch`."""
    if not (training and rate):
        return branch
    kept = torch.rand(len(branch), 1, 1, 1, device=branch.device) >= rate
    return branch * (kept / (1 - rate)).to(branch.dtype)


def _conv3x3(width: int, out: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(width, out, 3, stride, padding=1, bias=False)
