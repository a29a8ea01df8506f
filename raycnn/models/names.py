"""The networks' names, for those who must not import torch."""

NAMES: tuple[str, ...] = ("fastnet", "resnet20", "resnet18")
