"""Which trials are worth retraining: non-dominated sorting, and the rule that picks the finalists."""

import math
from typing import Literal

import numpy as np
from optuna.trial import FrozenTrial, TrialState


def fronts(values: list[tuple[float, ...]]) -> list[list[int]]:
    """Indices of `values` (all minimised) by front: the first holds those that none dominates, and so on."""
    if not values:
        return []
    points = np.array(values, dtype=float)
    # beats[i, j]: i is nowhere worse than j, and somewhere better. A thousand trials take milliseconds.
    beats = np.ones((len(points), len(points)), dtype=bool)
    better = np.zeros_like(beats)
    for column in points.T:
        beats &= column[:, None] <= column[None, :]
        better |= column[:, None] < column[None, :]
    beats &= better
    beaten_by = beats.sum(axis=0)
    left = np.ones(len(points), dtype=bool)
    sorted_fronts = []
    while left.any():
        front = np.flatnonzero(left & (beaten_by == 0))
        sorted_fronts.append(front.tolist())
        left[front] = False
        beaten_by -= beats[front].sum(axis=0)
    return sorted_fronts


def ranked(values: list[tuple[float, ...]]) -> list[int]:
    """Indices of `values` (all minimised), the best first: by front, and within one by how lonely they are.

    Loneliness is NSGA-II's crowding distance (Deb et al. 2002, IEEE Transactions on Evolutionary Computation 6): the
    ends of a front come first, then those with the widest gaps about them. With one value it is the order of values.
    """
    order: list[int] = []
    for front in fronts(values):
        lonely = _crowding([values[i] for i in front])
        sums = [sum(point) for point in _scaled([values[i] for i in front])]
        order += [front[i] for i in sorted(range(len(front)), key=lambda i: (-lonely[i], sums[i]))]
    return order


def _crowding(front: list[tuple[float, ...]]) -> list[float]:
    distances = [0.0] * len(front)
    for column in range(len(front[0])):
        order = sorted(range(len(front)), key=lambda i: front[i][column])
        span = front[order[-1]][column] - front[order[0]][column] or 1.0
        distances[order[0]] = distances[order[-1]] = math.inf
        for before, here, after in zip(order, order[1:], order[2:], strict=False):
            distances[here] += (front[after][column] - front[before][column]) / span
    return distances


def finalists(trials: list[FrozenTrial], top: int, choice: Literal["best", "spread"] = "best") -> list[FrozenTrial]:
    """At most `top` completed trials of the search (not the baseline), the best first; all of a front before the next.

    The first is the knee: least sum of objectives, each scaled to its range over all completed trials. Then, by choice,
    best: the best in each objective (of the first front only), then the rest by that sum.
    spread: whichever is farthest from all that are chosen (of its front), in scaled objectives.
    """
    done = [t for t in trials if t.state == TrialState.COMPLETE and t.user_attrs.get("kind") == "search"]
    if not done:
        return []
    points = _scaled([tuple(trial.values) for trial in done])
    order: list[int] = []
    for place, front in enumerate(fronts(points)):
        by_sum = sorted(front, key=lambda i: sum(points[i]))
        if choice == "spread":
            order += _spread(by_sum, points)
        else:
            extremes = [min(front, key=lambda i: points[i][k]) for k in range(len(points[0]))] if place == 0 else []
            order += list(dict.fromkeys([by_sum[0], *extremes, *by_sum]))
    return [done[i] for i in order[:top]]


def _spread(front: list[int], points: list[tuple[float, ...]]) -> list[int]:
    """The first of `front`, then in turn the farthest from those before it."""
    order, left = front[:1], front[1:]
    while left:
        farthest = max(left, key=lambda i: min(math.dist(points[i], points[j]) for j in order))
        order.append(farthest)
        left.remove(farthest)
    return order


def _scaled(values: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Each objective as a fraction of its range."""
    columns = list(zip(*values, strict=True))
    low, span = [min(c) for c in columns], [max(c) - min(c) or 1.0 for c in columns]
    return [tuple((x - lo) / s for x, lo, s in zip(value, low, span, strict=True)) for value in values]
