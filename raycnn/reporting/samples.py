"""What each regularizer makes of eight images, drawn with the functions that training uses."""

import base64
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from raycnn.data import shapes
from raycnn.data.dataset import channel_statistics, open_cached
from raycnn.errors import DataError
from raycnn.reporting.results import Run, Trial
from raycnn.spec.reading import trial_spec
from raycnn.spec.space import FloatRange, IntRange, Parameter, resolve
from raycnn.spec.trial import Regularizers

COUNT = 8
_GAP_PX = 2
_LARGEST_PX = 96  # images above are shrunk: the report is one file


@dataclass(frozen=True, slots=True)
class Sample:
    """A strip of images. source: a PNG as a data URI. strength: of the regularizer, and whose."""

    title: str
    strength: str
    alt: str
    source: str


def sample_images(run: Run, trial: Trial | None) -> tuple[list[Sample], str]:
    """The strips, and a sentence about the images, which says why there are none where there are none.

    Strengths are those of `trial`, the finalist that the report speaks of; of what it does without, those in the middle
    of the range that was searched. Random choices come from the search's seed.
    """
    import torch

    try:
        images, mean, std, classes = _images(run)
    except DataError as error:
        return [], f"Sample images are left out, for the run's data cannot be opened here: {error}"
    generator = torch.Generator().manual_seed(run.spec.search.seed)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    of = run.spec.data.name
    strips = [Sample("as they are", "", f"{COUNT} images of {of}", _strip(images))]
    strips += drawn(_strengths(run, trial), pixels, torch.tensor(mean), torch.tensor(std), generator)
    return strips, f"{COUNT} training images of {of}: {', '.join(classes)}."


def _images(run: Run) -> tuple[np.ndarray, list[float], list[float], list[str]]:
    """(8, h, w, 3) uint8, mean and std of the data, and the class of each image.

    Raises DataError where the data are out of reach.
    """
    directory, name = run.manifest.data_directory, run.spec.data.name
    if directory and (directory.exists() or name != "shapes"):
        data = open_cached(directory)
        labels = np.asarray(data.train.labels)
        chosen = _one_of_each(labels)
        classes = [data.class_names[label] for label in labels[chosen]]
        return np.array(data.train.images[chosen]), list(data.mean), list(data.std), classes
    if name != "shapes":
        raise DataError("manifest.json does not say where they are.")
    images, labels = shapes.generate(250, run.spec.data.seed, 0)
    mean, std = channel_statistics(images)
    chosen = _one_of_each(labels)
    return images[chosen], mean, std, [shapes.CLASS_NAMES[label] for label in labels[chosen]]


def _one_of_each(labels: np.ndarray) -> np.ndarray:
    """Indices of the first image of each class, then of the second of each, and so on: COUNT in all.

    Where there are fewer images, they come again.
    """
    by_class = np.argsort(labels, kind="stable")
    _, first, sizes = np.unique(labels[by_class], return_index=True, return_counts=True)
    place_in_class = np.arange(len(labels)) - np.repeat(first, sizes)
    return np.resize(by_class[np.argsort(place_in_class, kind="stable")], COUNT)


def _strengths(run: Run, trial: Trial | None) -> dict[str, tuple[Any, str]]:
    """By regularizer: its spec and whose strength it is. What the space leaves off is not among them."""
    middle = _regularizers(run, _in_the_middle)
    own = _regularizers(run, lambda name, _: trial.parameters[name]) if trial and trial.parameters else middle
    found: dict[str, tuple[Any, str]] = {"crop_flip": (own, "")}
    for name in ("trivialaugment", "augmix", "cutout", "mixup", "cutmix", "rotation"):
        taken = getattr(own, name)
        if trial and trial.parameters and taken:
            found[name] = (taken, f"as in {trial.name}")
        elif getattr(middle, name):
            aside = f"; {trial.name} does without it" if trial and trial.parameters else ""
            found[name] = (getattr(middle, name), f"the middle of the range searched{aside}")
    return found


def _regularizers(run: Run, suggest: Any) -> Regularizers:
    return trial_spec(run.spec, resolve(run.spec.space, suggest), seed=0).regularizers


def _in_the_middle(name: str, form: Parameter) -> Any:
    if isinstance(form, FloatRange):
        return math.sqrt(form.low * form.high) if form.log else (form.low + form.high) / 2
    if isinstance(form, IntRange):
        middle = math.sqrt(form.low * form.high) if form.log else (form.low + form.high) / 2
        return form.low + form.step * round((middle - form.low) / form.step)
    return next(option for option in (*form.choice, "off") if option != "off" or len(form.choice) == 1)


def drawn(strengths: dict[str, tuple[Any, str]], pixels: Any, mean: Any, std: Any, generator: Any) -> list[Sample]:
    """A strip for each regularizer of `strengths`: its spec by name, of "crop_flip" the Regularizers, and whose it is.

    pixels: (8, 3, h, w) uint8 tensor. The order is that of training; each is shown alone.
    """
    import torch

    from raycnn.regularizers import augmix, crop_flip, cutmix, cutout, mixup, rotation, trivialaugment
    from raycnn.regularizers.operations import operate

    height, width = pixels.shape[2:]
    centre, scale = mean.view(3, 1, 1), std.view(3, 1, 1)
    normalised = (pixels / 255 - centre) / scale

    def shown(images: Any) -> str:
        values = ((images * scale + centre) * 255).clamp(0, 255).round().to(torch.uint8)
        return _strip(values.permute(0, 2, 3, 1).numpy())

    found = []
    regularizers: Regularizers = strengths["crop_flip"][0]
    words = [f"padding {regularizers.crop_px} px"] * bool(regularizers.crop_px) + ["half mirrored"] * regularizers.flip
    if words:
        images = pixels
        if regularizers.crop_px:
            corners = crop_flip.draw_crops(COUNT, regularizers.crop_px, generator)
            images = crop_flip.crop(images, corners, regularizers.crop_px, regularizers.crop_padding)
        if regularizers.flip:
            images = crop_flip.flip(images, crop_flip.draw_flips(COUNT, generator))
        strip = _strip(images.permute(0, 2, 3, 1).numpy())
        found.append(Sample("crop and flip", ", ".join(words), "cropped and mirrored images", strip))
    if "trivialaugment" in strengths:
        spec, whose = strengths["trivialaugment"]
        images = operate(pixels, *trivialaugment.draw(COUNT, spec.strength, width, generator))
        strip = _strip(images.permute(0, 2, 3, 1).numpy())
        words = _sentence(f"strength {spec.strength:.3g}", whose)
        found.append(Sample("TrivialAugment", words, "images after one operation each", strip))
    if "augmix" in strengths:
        spec, whose = strengths["augmix"]
        images = augmix.augmix(pixels, *augmix.draw(COUNT, 1, spec.severity, width, generator))
        strip = _strip(images.round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
        words = _sentence(f"severity {spec.severity:.3g}, weight of the divergence {spec.jsd_weight:.3g}", whose)
        found.append(Sample("AugMix", words, "one view of each image", strip))
    if "cutout" in strengths:
        spec, whose = strengths["cutout"]
        centres = cutout.draw_centres(COUNT, spec.holes, height, width, generator)
        words = _sentence(
            f"{spec.holes} {'black ' * (spec.fill == 'black')}square{'s' * (spec.holes > 1)} of {spec.size_px} px",
            whose,
        )
        black = _strip(cutout.cutout(pixels, centres, spec.size_px).permute(0, 2, 3, 1).numpy())
        strip = black if spec.fill == "black" else shown(cutout.cutout(normalised, centres, spec.size_px))
        found.append(Sample("cutout", words, "images with blank squares", strip))
    if "mixup" in strengths:
        spec, whose = strengths["mixup"]
        weights = mixup.draw_lambdas(COUNT, spec.alpha, generator)
        mixed = [mixup.mixup(normalised[i : i + 1], normalised[i - 1 : i or None], weights[i]) for i in range(COUNT)]
        lambdas = " ".join(f"{weight:.2f}" for weight in weights.tolist())
        words = _sentence(f"alpha {spec.alpha:.3g}", whose) + f"; each as from a batch of its own, λ = {lambdas}"
        found.append(Sample("mixup", words, "images mixed with their left neighbours", shown(torch.cat(mixed))))
    if "cutmix" in strengths:
        spec, whose = strengths["cutmix"]
        boxes = cutmix.draw_boxes(COUNT, spec.alpha, height, width, generator)
        cut = [cutmix.cutmix(normalised[i : i + 1], normalised[i - 1 : i or None], boxes[i]) for i in range(COUNT)]
        words = _sentence(f"alpha {spec.alpha:.3g}, {spec.probability:.0%} of the batches", whose)
        found.append(Sample("CutMix", words, "images with a part of their left neighbours", shown(torch.cat(cut))))
    if "rotation" in strengths:
        spec, whose = strengths["rotation"]
        count = COUNT // spec.views
        turns = rotation.draw_turns(count, spec.views, generator).flatten()
        images = normalised[:count].repeat_interleave(spec.views, dim=0)
        seen = f"{spec.views} view{'s' * (spec.views > 1)} of each image"
        words = _sentence(f"weight {spec.weight:.3g}, {seen}", whose)
        found.append(Sample("rotation", words, "images in quarter turns", shown(rotation.rotate(images, turns))))
    return found


def _sentence(strength: str, whose: str) -> str:
    return f"{strength}, {whose}" if whose else strength


def _strip(images: np.ndarray) -> str:
    """Images (n, h, w, 3) uint8 side by side on nothing, as the data URI of a PNG."""
    n, height, width = images.shape[:3]
    strip = Image.new("RGBA", (n * width + (n - 1) * _GAP_PX, height))
    for place, pixels in enumerate(images):
        strip.paste(Image.fromarray(np.ascontiguousarray(pixels)), (place * (width + _GAP_PX), 0))
    if height > _LARGEST_PX:
        strip = strip.resize((round(strip.width * _LARGEST_PX / height), _LARGEST_PX), Image.Resampling.BOX)
    file = io.BytesIO()
    strip.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
