"""Before a command runs the code of a run's own model: whether the user has made the run, says so, or is asked."""

import sys
from pathlib import Path

import typer

from raycnn.errors import RaycnnError
from raycnn.models.trust import ANY, UntrustedModel, remember, remembered, trust, trusted

HELP = "Run the code of the model that the run names, though you have not made the run here."


def trust_run(run: Path, told: bool) -> None:
    """From here on, this process may import the model that run/spec.yaml names, if the run is this user's.

    told: by --trust-model, that any model that the run names may be imported; it is remembered of this run. Raises
    UntrustedModel where it is not the user's and they say no, or cannot be asked. Another model, of a checkpoint or of
    the study, which no run of raycnn's has, is not trusted but by --trust-model.
    """
    from raycnn.spec.reading import read_search

    if told:
        trust([ANY])
    try:
        name = read_search(run / "spec.yaml").model
    except RaycnnError:  # told by who needs it; nothing is trusted
        return
    if ":" in name:
        _trust(run, name)


def trust_checkpoint(path: Path, told: bool) -> None:
    """As `trust_run`, for the model that a single checkpoint names."""
    from raycnn.training.checkpoint import read

    if told:
        trust([ANY])
    name = read(path).spec.model
    if ":" in name:
        runs = (folder for folder in path.absolute().parents if name in remembered(folder))
        _trust(next(runs, path.absolute().parent), name, keep=False)


def _trust(run: Path, name: str, keep: bool = True) -> None:
    if name not in remembered(run):
        try:
            trusted().refuse_other(name)
        except UntrustedModel as error:
            if not _asked(f"{run}: names the model {name}, and was not made here by you."):
                raise error from None
        if keep:
            remember(run, name)
    trust([name])


def _asked(what: str) -> bool:
    """Whether the user, at a terminal, says yes."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    return typer.confirm(f"raycnn: {what} Run the code of that module?", default=False, err=True)
