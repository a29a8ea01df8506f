"""finals/finalists.json: which trainings are scored. Without torch and Ray."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from raycnn.errors import DataError
from raycnn.files import MOST_TEXT_BYTES, read_file, write_atomically

FINALISTS = "finalists.json"


@dataclass(frozen=True, slots=True)
class Finalist:
    """directory: of the training, below the run's; its last parts are the model and the number of the seed."""

    model: str
    seed: int
    directory: str


def keep_finalists(run: Path, found: Sequence[Finalist]) -> None:
    """Raises OSError."""
    path = run / "finals" / FINALISTS
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps([asdict(one) for one in found], indent=2) + "\n")


def read_finalists(run: Path) -> list[Finalist]:
    """Raises DataError where the file is missing or damaged. A seed is checked with its checkpoint."""
    path = run / "finals" / FINALISTS
    mend = "Give the command of the search again, which writes it anew."
    try:
        found = [Finalist(**row) for row in json.loads(read_file(path, MOST_TEXT_BYTES))]
    except FileNotFoundError:
        raise DataError(f"{path}: is missing. {mend}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Mend that.") from None
    except (ValueError, TypeError, RecursionError):
        raise DataError(f"{path}: is empty or damaged. {mend}") from None
    for one in found:
        if type(one.seed) is not int or Path(str(one.directory)).parts[-2:-1] != (one.model,):
            raise DataError(f"{path}: is damaged: {one.directory!r} is no training of {one.model!r}. {mend}")
    if len({(one.model, one.seed) for one in found}) != len(found) or not found:
        raise DataError(f"{path}: is damaged. {mend}")
    return found
