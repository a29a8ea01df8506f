"""TrivialAugment: one operation of random strength for each image, and nothing to tune."""

import torch
from torch import Tensor

from raycnn.regularizers.operations import GEOMETRIC, NUMBER, OPERATIONS

# The wide ranges of the paper, table 7, as fractions or degrees at full strength.
DEGREES, SHEAR = 135.0, 0.99
BITS_LOST, THRESHOLD = 6, 256


def draw(count: int, strength: float, image_px: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For `count` images one of the ten operations (identity among them) each, uniform, and its amount, uniform up to
    `strength` of the widest range: (count,) int64 and (count,) float32, for `operations.operate`.

    Müller & Hutter 2021, arXiv:2103.10158, algorithm 1, with the ranges of its "wide" space and without brightness,
    colour, contrast and sharpness, which resemble the benchmark's corruptions. Translation goes up to the whole side.
    """
    operations = torch.randint(0, len(OPERATIONS), (count,), generator=generator)
    level = strength * torch.rand(count, generator=generator)
    sign = torch.randint(0, 2, (count,), generator=generator) * 2 - 1
    widest = torch.zeros(len(OPERATIONS))
    widest[NUMBER["rotate"]] = DEGREES
    widest[NUMBER["shear_x"]] = widest[NUMBER["shear_y"]] = SHEAR
    widest[NUMBER["translate_x"]] = widest[NUMBER["translate_y"]] = image_px
    amounts = torch.where(operations >= GEOMETRIC.start, sign * level * widest[operations], 0)
    amounts = torch.where(operations == NUMBER["posterize"], 8 - (BITS_LOST * level).round(), amounts)
    amounts = torch.where(operations == NUMBER["solarize"], (THRESHOLD * (1 - level)).round(), amounts)
    return operations, amounts
