"""A training's state on disk: written atomically, with a digest, the last two kept, read without unpickling anything
but tensors."""

import errno
import io
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

import raycnn
from raycnn import models
from raycnn.digest import BLANK, MARK, is_whole, with_digest
from raycnn.errors import CheckpointError, DamagedCheckpoint
from raycnn.files import MOST_TABLE_BYTES, read_file, replacing
from raycnn.models.classifier import Classifier
from raycnn.spec.trial import TrialSpec
from raycnn.training.log import EpochRecord
from raycnn.training.torch_file import take_weights

FORMAT = 2
CPU = torch.device("cpu")
_MOST_PX = 1024  # of images, as in the specification of data
_MOST_CLASSES = 100_000
_MEND = "Delete it, then give the command of the search again: it is trained again."
LAST, PREVIOUS = "checkpoint.pt", "checkpoint.prev.pt"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that a training needs to go on, and a score to be made. `history` has a record for each finished epoch.

    averaged: the moving average of the model; it is what is scored. None: no EMA.
    """

    spec: TrialSpec
    history: list[EpochRecord]
    model: dict[str, Any]
    averaged: dict[str, Any] | None
    optimizer: dict[str, Any]
    classes: int
    image_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return self.history[-1].epoch


def save(checkpoint: Checkpoint, directory: Path) -> None:
    """Write `checkpoint` as directory/checkpoint.pt; the one that was there becomes checkpoint.prev.pt.

    A process killed at any instant leaves at least one of the two whole.
    """
    plain = {
        "raycnn_checkpoint": FORMAT,
        "spec": checkpoint.spec.model_dump_json(),
        "history": [asdict(record) for record in checkpoint.history],
        "model": checkpoint.model,
        "averaged": checkpoint.averaged,
        "optimizer": checkpoint.optimizer,
        "classes": checkpoint.classes,
        "image_px": checkpoint.image_px,
        "mean": list(checkpoint.mean),
        "std": list(checkpoint.std),
    }
    content = io.BytesIO()  # first into memory: where a disk is full, torch raises errors that do not say so
    torch.save(plain, content)
    whole = with_digest(_with_comment(content.getvalue(), BLANK.encode()))
    last = directory / LAST
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with replacing(last) as file:
            file.write(whole)
            file.flush()
            os.fsync(file.fileno())  # before the old one moves: this is where a full disk shows
            if last.exists():
                last.replace(directory / PREVIOUS)
    except OSError as error:
        raise CheckpointError(
            f"{last}: cannot be written ({error.strerror}). Free space or choose another --run."
        ) from error


def load(
    directory: Path,
    spec: TrialSpec,
    device: torch.device = CPU,
    note: Callable[[str], None] = lambda _: None,
) -> Checkpoint | None:
    """The last checkpoint of `spec` in `directory`, or the one before if the last is damaged (`note` is then told);
    None if there is none, or none but damaged ones: a training can be done again, and `note` is told. Raises
    CheckpointError if one of another training is there, or one that cannot be read."""
    damage: CheckpointError | None = None
    for path in (directory / LAST, directory / PREVIOUS):
        if not path.exists():
            continue
        try:
            checkpoint = read(path, device)
            if checkpoint.spec != spec:
                raise CheckpointError(
                    f"{path}: is of another training: {_difference(checkpoint.spec, spec)}. Move it away."
                )
        except CheckpointError as error:
            if damage is None or not isinstance(error, DamagedCheckpoint):
                damage = error
            continue
        if damage is not None:
            note(f"{_without_mend(damage)} Going on from {path.name}, after epoch {checkpoint.epoch}.")
        return checkpoint
    if damage is not None and not isinstance(damage, DamagedCheckpoint):
        raise damage
    if damage is not None:
        note(f"{_without_mend(damage)} The training begins anew.")
    return None


def _without_mend(damage: CheckpointError) -> str:
    return str(damage).removesuffix(_MEND).rstrip()


def read(path: Path, device: torch.device = CPU) -> Checkpoint:
    """The checkpoint in one file, its tensors on `device`. Raises CheckpointError, naming the file, if it is none."""
    content = b""
    try:
        content = read_file(path, MOST_TABLE_BYTES)
        if not is_whole(content):
            raise DamagedCheckpoint(f"{path}: is damaged: it is not what was written (its SHA-256 differs). {_MEND}")
        plain = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        if (found := plain["raycnn_checkpoint"]) != FORMAT:
            has = f"format {found}" if isinstance(found, int) else "an unknown format"
            raise CheckpointError(
                f"{path}: has {has}, and this raycnn, {raycnn.__version__}, reads {FORMAT}. Use the version that wrote "
                "it, or start a new run."
            )
        return _checkpoint(plain)
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such checkpoint.") from error
    except OSError as error:
        kind = DamagedCheckpoint if error.errno in (errno.EINVAL, errno.EFBIG) else CheckpointError  # of read_file
        raise kind(f"{path}: cannot be read ({error.strerror}). {_MEND}") from error
    except ValidationError as error:
        raise CheckpointError(
            f"{path}: was written by another version of raycnn than this one, {raycnn.__version__}. Use that one, or "
            "delete the file and train again."
        ) from error
    except Exception as error:  # damaged bytes make torch raise nearly anything; all of it means the same
        # What has its digest is as it was written: then memory or the device is at fault, and it must not be lost.
        kind = CheckpointError if MARK.encode() in content or isinstance(error, MemoryError) else DamagedCheckpoint
        raise kind(f"{path}: is torn or no checkpoint of raycnn ({type(error).__name__}). {_MEND}") from error


def _checkpoint(plain: dict[str, Any]) -> Checkpoint:
    """Raises nearly any error where it has another form."""
    found = Checkpoint(
        spec=TrialSpec.model_validate_json(plain["spec"]),
        history=[EpochRecord(**record) for record in plain["history"]],
        model=plain["model"],
        averaged=plain["averaged"],
        optimizer=plain["optimizer"],
        classes=plain["classes"],
        image_px=plain["image_px"],
        mean=tuple(map(float, plain["mean"])),
        std=tuple(map(float, plain["std"])),
    )
    # A network of as many classes and pixels as a file says could take any memory.
    for count, most in ((found.classes, _MOST_CLASSES), (found.image_px, _MOST_PX)):
        if not isinstance(count, int) or not 0 < count <= most:
            raise ValueError("its images are none")
    if not len(found.mean) == len(found.std) == 3:
        raise ValueError("its images are none")
    if not isinstance(found.epoch, int) or not isinstance(found.optimizer, dict):
        raise ValueError("its training is none")
    return found


def _with_comment(archive: bytes, comment: bytes) -> bytes:
    """A zip archive without a comment, as torch writes it, with one: any program still opens it."""
    return archive[:-2] + len(comment).to_bytes(2, "little") + comment


def load_classifier(path: Path, device: torch.device = CPU) -> Classifier:
    """The trained classifier of a checkpoint, in eval mode, channels_last, ready to score. Raises CheckpointError."""
    return restore_classifier(read(path, device), path, device).eval()


def restore_classifier(checkpoint: Checkpoint, path: Path, device: torch.device = CPU) -> Classifier:
    """The classifier of `checkpoint`, on `device`. Raises CheckpointError, naming `path`, where its weights are not
    those of its specification."""
    spec = checkpoint.spec
    network = models.build(spec.model, checkpoint.image_px)
    rotation = spec.regularizers.rotation is not None
    classifier = Classifier(network, checkpoint.classes, checkpoint.mean, checkpoint.std, rotation)
    try:
        take_weights(classifier, checkpoint.averaged or checkpoint.model)
    except ValueError as error:
        raise CheckpointError(f"{path}: its weights are not those of a {spec.model} ({error}). {_MEND}") from error
    return classifier.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] not in the stub


def _difference(found: TrialSpec, wanted: TrialSpec) -> str:
    """Which fields differ, on one line."""
    a, b = found.model_dump(), wanted.model_dump()
    return ", ".join(f"{key} is {a[key]}, not {b[key]}" for key in b if a[key] != b[key])
