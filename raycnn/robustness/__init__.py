"""How a trained network fares on images that differ from those it was trained on.

`corruptions` makes corrupted images, `archives` opens CIFAR-10-C and CIFAR-10-P, `metrics` states the numbers,
`evaluate` and `attacks` turn models into rows of `robustness.parquet`. The first three never import torch.
"""
