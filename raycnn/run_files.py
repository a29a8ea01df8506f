"""spec.yaml and manifest.json of a run directory, each with a digest of itself."""

import io
import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from raycnn.digest import BLANK, MARK, is_whole, read_json, with_digest, write_json
from raycnn.errors import SpecError
from raycnn.files import MOST_TEXT_BYTES, read_file, write_atomically
from raycnn.spec.reading import RUN_SPEC, read_search
from raycnn.spec.search import SearchSpec

SPEC, MANIFEST = RUN_SPEC, "manifest.json"
_AGAIN = "then give the command of the search again, which writes it anew"


def write_spec(run: Path, spec: SearchSpec) -> None:
    """Raises OSError."""
    text = io.StringIO()
    text.write(f"# {BLANK}\n")
    YAML().dump(json.loads(spec.model_dump_json(exclude_none=True)), text)
    write_atomically(run / SPEC, with_digest(text.getvalue().encode()))


def read_spec(run: Path) -> SearchSpec:
    """The search that a run directory is of. Raises SpecError where the file is missing or damaged."""
    path = run / SPEC
    try:
        content = read_file(path, MOST_TEXT_BYTES)
    except FileNotFoundError:
        raise SpecError(
            f"{path}: is missing. Give the directory of a run, or the command of its search again."
        ) from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror}). Mend that.") from None
    if not content.strip():
        raise SpecError(f"{path}: is empty. Remove it, {_AGAIN}.")
    if not is_whole(content):
        raise SpecError(
            f"{path}: is not as raycnn wrote it: damaged, or changed by hand. Remove it, {_AGAIN}; if the change is "
            "meant, remove its first line."
        )
    return read_search(path)


def spec_text(run: Path) -> str:
    """What a reader wants to see of it. `read_spec` was content with it."""
    first, newline, rest = (run / SPEC).read_text(encoding="utf-8").partition("\n")
    return rest if MARK in first else first + newline + rest


def read_manifest(run: Path) -> dict[str, Any]:
    """Empty where there is none. Raises DataError."""
    return read_json(run / MANIFEST, f"Remove it, {_AGAIN}.")


def replace_manifest(run: Path, facts: dict[str, Any]) -> None:
    """Raises OSError."""
    write_json(run / MANIFEST, facts)
