"""What a file is that was given in the place of another one: known by its keys."""

from collections.abc import Collection

from raycnn.invocation import command
from raycnn.spec.recipe import Recipe
from raycnn.spec.search import SearchSpec
from raycnn.spec.trial import Spec


def other_kind(form: type[Spec], keys: Collection[str], path: str) -> str | None:
    """What the file at `path` is, and where it belongs, if it is of another kind than `form`; None if its keys do not
    say so."""
    if form is SearchSpec and "training" in keys and "space" not in keys:
        return f"is a recipe, not a search space. Train it with: {command('train', path)}"
    if form is Recipe and "space" in keys and "training" not in keys:
        return f"is a search space, not a recipe. Search it with: {command('tune', path)}"
    if {"cluster_name", "provider"} <= set(keys):
        return f"is the configuration of a cluster, for ray up. {_wanted(form)}"
    if "sha256" in keys:
        return f"is a file that raycnn wrote into the directory of a run. {_wanted(form)}"
    if {"model", "epochs", "optimizer"} <= set(keys):
        return f"is a single training, without its data. {_wanted(form)}"
    return None


def _wanted(form: type[Spec]) -> str:
    if form is Recipe:
        return "Give a recipe, as search_spaces/recipes/cutout.yaml."
    return "Give a search space, as search_spaces/quickstart.yaml, or spec.yaml of a run."
