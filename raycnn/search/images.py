"""The images of a search: data set, split, and the corrupted held-out images that all trials are measured on."""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raycnn.data.duplicates import split_duplicates
from raycnn.data.remote import local_root, look_at
from raycnn.data.sources import DataSet, load
from raycnn.data.split import Split, stratified_split
from raycnn.files import MOST_TABLE_BYTES, disk_fault, read_file, write_atomically
from raycnn.models.trust import trusted
from raycnn.run_files import read_manifest
from raycnn.search.head_files import HeadFiles
from raycnn.search.seeds import derived_seed
from raycnn.search.worker import Preparation
from raycnn.spec.data import DataSpec
from raycnn.spec.scoring import Scoring
from raycnn.spec.search import Finals, SearchSpec

DATA_PLACE = "data_place"
"""In the manifest: what was given with --data."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class SearchImages:
    """corrupted: .npy file of (corruptions, severities, n, h, w, 3), or None where it is no objective.

    sealed: where the test images and the benchmark's files are, which must not be opened until the search has ended.
    duplicates: a line for each kind of images with the same pixels, those of the split among them.
    """

    data: DataSet
    split: Split
    corrupted: Path | None
    sealed: tuple[Path, ...]
    duplicates: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "name": self.data.name,
            "digest": self.data.digest,
            "verified": self.data.verified,
            "split_digest": self.split.digest,
            "train": len(self.split.train),
            "validation": len(self.split.validation),
            "test": self.data.test_count,
            "classes": self.data.class_names,
            "side_px": self.data.train.images.shape[1],
            "left_out": self.data.left_out,
            "duplicates": self.duplicates,
            "directory": self.data.directory,
        }

    def preparation(self, cpus: float, files: HeadFiles | None) -> Preparation:
        """For the workers: by path on one node (no `files`), through Ray's object store where there may be more."""
        import ray

        corrupted: Any = self.corrupted
        if files is not None and corrupted is not None:
            corrupted = ray.put(np.load(corrupted, allow_pickle=False))
        return Preparation(
            data=self.data.directory if files is None else ray.put(self.data),
            train=self.split.train,
            validation=self.split.validation,
            corrupted=corrupted,
            cpus=cpus,
            sealed=self.sealed,
            files=files,
            trusted=trusted(),
        )


def data_root(run: Path, spec: SearchSpec, place: str | None, progress: Progress | None = None) -> Path | None:
    """The directory with the data of a run, after what a URI has of them has been copied there.

    place: directory or URI; None: that of the search, which may have named none. Raises DataError.
    """
    return local_root(_place(run, place), spec.data, _benchmarks(spec), progress)


def look_for_data(run: Path, spec: SearchSpec, place: str | None) -> tuple[Path | None, int]:
    """The directory of `data_root`, and how many bytes it would copy there; nothing is copied. Raises DataError."""
    return look_at(_place(run, place), spec.data, _benchmarks(spec))


def _place(run: Path, place: str | None) -> str | None:
    return read_manifest(run).get(DATA_PLACE) if place is None else place


def _benchmarks(spec: SearchSpec) -> list[str]:
    if not isinstance(spec.finals, Finals):
        return []
    from raycnn.robustness.units import beside_data  # torch comes with it

    return beside_data(spec.finals)


def search_images(spec: SearchSpec, root: Path | None, run: Path, progress: Progress | None = None) -> SearchImages:
    """Read and split the data, and corrupt the held-out images once for this run. Raises DataError, SpecError."""
    from raycnn.robustness.units import test_paths  # torch comes with it

    data = load(spec.data, root, progress)
    split = split_of(data.train.labels, spec.data, data.class_names)
    corrupted = None
    if "val/corruption_error" in spec.search.objectives:
        corrupted = _corrupted(spec, data, split, run / "cache", progress)
    scoring = spec.finals if isinstance(spec.finals, Finals) else Scoring()
    duplicates = (*data.duplicates, *split_duplicates(data, split))
    return SearchImages(data, split, corrupted, test_paths(scoring, spec.data, root, data), duplicates)


def split_of(labels: np.ndarray, spec: DataSpec, class_names: Sequence[str] = ()) -> Split:
    """labels: of the training images. class_names: for what is raised. Raises SpecError."""
    wish = spec.validation
    return stratified_split(labels, int(wish) if wish >= 1 else wish, spec.seed, class_names)


def _corrupted(spec: SearchSpec, data: DataSet, split: Split, cache: Path, progress: Progress | None) -> Path:
    from raycnn.robustness.corruptions import validation_corruptions

    count = min(spec.search.corruption_images, len(split.validation))
    name = f"validation-corruptions-{count}-{split.digest[:12]}-{data.digest[:12]}"
    for path in cache.glob(f"{name}-*.npy"):
        try:
            if path.name == _named(name, read_file(path, MOST_TABLE_BYTES)):
                return path
        except OSError as error:
            if disk_fault(error):
                raise
        path.unlink()  # damaged: trials would be measured on other images
    if progress:
        progress("corrupting held-out images", 0, count)
    images = np.array(data.train.images[split.validation[:count]])
    made = io.BytesIO()
    np.save(made, validation_corruptions(images, derived_seed(spec.search.seed, "validation corruptions")))
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / _named(name, made.getvalue())
    write_atomically(path, made.getvalue())
    return path


def _named(name: str, content: bytes) -> str:
    """A name that says what the content must be."""
    return f"{name}-{hashlib.sha256(content).hexdigest()[:16]}.npy"
