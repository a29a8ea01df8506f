"""A trained model to take away: weights, a program that needs no raycnn, and a card that says what it is."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import raycnn
from raycnn.errors import DataError
from raycnn.files import replacing, write_atomically
from raycnn.invocation import command
from raycnn.reporting.answer import chosen_trial
from raycnn.reporting.gaps import gaps
from raycnn.reporting.results import Run, read_run
from raycnn.reporting.score_words import difference_short, estimate_words, interval_words
from raycnn.robustness.summary import BASELINE, measures

if TYPE_CHECKING:
    from raycnn.training.checkpoint import Checkpoint  # which imports torch

WEIGHTS, PROGRAM, CARD, FACTS = "model.safetensors", "model.pt2", "README.md", "model.json"
_AGREE = 1e-4  # of logits: the exported program may add in another order


@dataclass(frozen=True, slots=True)
class Source:
    """Which training is exported. model: as in the finals; seed: the number of its directory; None: of the search."""

    model: str
    seed: int | None
    checkpoint: Path


def export(
    run_directory: Path, model: str | None, seed: int, out: Path, note: Callable[[str], None] = lambda _: None
) -> list[Path]:
    """Write the model into `out`: model.safetensors, model.pt2, model.json and README.md, in that order.

    model: None: the finalist that the report speaks of. Of its trainings it is number `seed`, chosen by its number and
    not by its score, which would flatter it. What is written is read again and must answer as the model does.
    note: is told what of the run is lost, for the card goes without it.
    Raises DataError where there is no such training or the folder cannot be written, CheckpointError.
    """
    import torch
    from safetensors.torch import load_file, save

    from raycnn.training.checkpoint import restore_classifier

    run, source, checkpoint = chosen(run_directory, model, seed)
    for gap in gaps(run):
        note(gap)
    classifier = restore_classifier(checkpoint, source.checkpoint).eval().to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue] not in the stub
    side = checkpoint.image_px
    example = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    facts = {
        "raycnn": raycnn.__version__,
        "model": checkpoint.spec.model,
        "classes": _class_names(run, checkpoint.classes),
        "input": f"float32 in [0, 1], (batch, 3, {side}, {side}), RGB; it is normalised inside",
        "output": f"logits, (batch, {checkpoint.classes})",
        "mean": list(checkpoint.mean),
        "std": list(checkpoint.std),
        "training": json.loads(checkpoint.spec.model_dump_json()),
        "run": run.spec.name,
        "source": f"{source.model}" + (f", training {source.seed}" if source.seed is not None else ", of the search"),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        weights = {name: value.contiguous() for name, value in classifier.state_dict().items()}
        about = {"raycnn": raycnn.__version__, "model": checkpoint.spec.model}
        write_atomically(out / WEIGHTS, save(weights, metadata=about))  # save_file makes it 0600
        batch = torch.export.Dim("batch", min=1)
        with torch.no_grad():
            program = torch.export.export(classifier, (example,), dynamic_shapes=({0: batch},))
            with replacing(out / PROGRAM) as file:
                torch.export.save(program, file)
            wanted = classifier(example).numpy()
            found = torch.export.load(out / PROGRAM).module()(example[:1].repeat(3, 1, 1, 1)).numpy()
        write_atomically(out / FACTS, json.dumps(facts, indent=2) + "\n")
        write_atomically(out / CARD, _card(run, source, facts))
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error}). Mend that, or give another --out.") from error
    if np.abs(found - wanted[:1]).max() > _AGREE * max(1.0, float(np.abs(wanted).max())):
        raise DataError(f"{out / PROGRAM}: answers otherwise than the model. Please report this.")
    if any(not torch.equal(value, weights[name]) for name, value in load_file(out / WEIGHTS).items()):
        raise DataError(f"{out / WEIGHTS}: came back otherwise than it was written. Is the disk sound? Try again.")
    return [out / name for name in (WEIGHTS, PROGRAM, FACTS, CARD)]


def chosen(run_directory: Path, model: str | None, seed: int) -> "tuple[Run, Source, Checkpoint]":
    """What `export` exports. Raises as it does."""
    from raycnn.training.checkpoint import read

    run = read_run(run_directory)
    if not run.trials:
        raise DataError(f"{run_directory}: has no trials.parquet. Make it again: {command('report', run_directory)}")
    source = _source(run, model, seed)
    return run, source, read(source.checkpoint)


def _source(run: Run, model: str | None, seed: int) -> Source:
    trial = chosen_trial(run)
    name = model or (trial.name if trial else BASELINE)
    final = run.directory / "finals" / name / f"seed-{seed}" / "checkpoint.pt"
    if final.exists():
        return Source(name, seed, final)
    known = sorted({path.parent.parent.name for path in run.directory.glob("finals/*/seed-*/checkpoint.pt")})
    if known:
        what = f"{name}, training {seed}" if name in known else name
        raise DataError(f"{run.directory}: the finals have no {what}. Choose from {', '.join(known)}, --seed 0 and on.")
    number = next((one.number for one in run.trials if one.name == name), None)
    of_search = run.directory / "trials" / str(number) / "checkpoint.pt"
    if number is None or not of_search.exists():
        raise DataError(f"{run.directory}: has no checkpoint of {name}. Give --model baseline or trial-007.")
    return Source(name, None, of_search)


def _class_names(run: Run, classes: int) -> list[str]:
    from raycnn.data.dataset import open_cached

    try:
        directory = run.manifest.data_directory
        return list(open_cached(directory).class_names) if directory else [str(index) for index in range(classes)]
    except DataError:  # the data are elsewhere by now
        return [str(index) for index in range(classes)]


def _card(run: Run, source: Source, facts: dict[str, Any]) -> str:
    training = facts["training"]
    regularizers = {k: v for k, v in training["regularizers"].items() if v not in (None, False, 0.0, 0)}
    optimizer = {k: v for k, v in training["optimizer"].items() if v is not None}
    lines = [
        f"# {source.model} of {run.spec.name}",
        "",
        f"`{training['model']}`, an image classifier of {len(facts['classes'])} classes, trained by raycnn "
        f"{facts['raycnn']} on {run.spec.data.name}{' (an unofficial copy)' if run.unofficial else ''}: "
        f"{training['epochs']} epochs of batch size {training['batch_size']}, seed {training['seed']}, "
        + ("all training images." if training["train_on"] == "all" else "without the validation images."),
        "",
        f"- Regularizers: `{json.dumps(regularizers)}`",
        f"- Optimizer: `{json.dumps(optimizer)}`",
        f"- Input: {facts['input']}",
        f"- Output: {facts['output']}: {', '.join(facts['classes'])}",
        "",
        "## Use",
        "",
        "    import torch",
        f'    model = torch.export.load("{PROGRAM}").module()',
        "    logits = model(images)",
        "",
        f"`{WEIGHTS}` has the weights alone, `{FACTS}` all of the above for programs.",
        "",
        "## How good it is",
        "",
    ]
    every = [measure for measure in measures(run.outcomes, run.tuned_on) if source.model in measure.samples]
    if not every:
        return "\n".join([*lines, "It was not scored on test images.", ""])
    lines += [
        "Lower is better; mean ± standard deviation over the trainings of this setting, of which this is one.",
        "",
    ]
    lines += ["| | | 95 % interval | against the untuned baseline |", "| --- | --- | --- | --- |"]
    for measure in every:
        of = measure.estimate(source.model)
        pair = measure.pairs.get((source.model, BASELINE))
        against = difference_short(pair, measure.share) if pair else ""
        row = [measure.title, estimate_words(of, measure.share), interval_words(of, measure.share), against]
        lines.append(f"| {' | '.join(row)} |")
    lines += ["", *(f"{name}: {origin}." for name, origin in run.manifest.benchmarks.items())]
    lines += [
        "It is no defence against attacks, and errs elsewhere than on such images in ways that nobody has measured."
    ]
    return "\n".join([*lines, ""]).replace("\N{NO-BREAK SPACE}", " ")
