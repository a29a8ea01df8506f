"""The JSON schema of search space files, for editors: it completes keys, shows what they mean and marks mistakes.

`python -m raycnn.tune --schema > search_spaces/schema.json` writes the file that the shipped search spaces name.
"""

from typing import Any

from raycnn.spec.ranges import Options
from raycnn.spec.search import SearchSpec
from raycnn.spec.space import Branches
from raycnn.spec.trial import TrialSpec

_GENERIC = {model.__name__: " ".join(str(model.__doc__).split()) for model in (Options, Branches)}


def json_schema() -> dict[str, Any]:
    """The schema of SearchSpec. A constant carries the limits and the description of the field that it sets."""
    schema = SearchSpec.model_json_schema()
    fields = TrialSpec.model_json_schema()["$defs"]
    for name, form in schema["$defs"].items():
        if (generic := name.split("_")[0]) in _GENERIC:
            form.setdefault("description", _GENERIC[generic])
        field = fields.get(name.removesuffix("Space"), {}) if name.endswith("Space") else {}
        form["properties"] = {
            key: _described(value, field.get("properties", {}).get(key, {}))
            for key, value in form["properties"].items()
        }
    schema["properties"] = {key: _described(value, {}) for key, value in schema["properties"].items()}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "raycnn search space"}
    return head | {key: value for key, value in schema.items() if key != "title"}


def _described(value: dict[str, Any], field: dict[str, Any]) -> dict[str, Any]:
    """The schema of a key of the file, with what the schema of the TrialSpec's field says of it."""
    limits = {key: limit for key, limit in field.items() if key not in ("title", "default", "description")}
    described = {key: part for key, part in value.items() if key != "title"}
    if "oneOf" in value and "type" in field:
        described["oneOf"] = [limits if form.get("type") == field["type"] else form for form in value["oneOf"]]
    if "description" in field:
        described["description"] = field["description"]
    return described
