"""YAML text becomes a tree that JSON can hold, or one line that says why not. What it may cost is limited."""

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.scalarbool import ScalarBoolean

from raycnn.errors import SpecError, one_line

# What a file may cost. A search space has some hundred lines, ten levels, and numbers that a computer counts with.
MOST_BYTES = 1_000_000
MOST_DEPTH = 50
MOST_NODES = 50_000  # with each alias (*name) counted as what it stands for
MOST_NUMBER = 2**63


def read_yaml(text: str, where: str) -> Any:
    """The tree, in which ruamel knows the line of each key. where: names the text in messages. Raises SpecError."""
    if len(text) > MOST_BYTES:
        raise SpecError(f"{where}: is longer than {MOST_BYTES:,} bytes. Shorten it.")
    try:
        depth = 0
        for event in YAML(typ="rt").parse(io.StringIO(text)):  # as they come: what is nested deeply takes long to load
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if depth > MOST_DEPTH:
                raise SpecError(f"{where}: is nested more than {MOST_DEPTH} deep. Remove levels.")
        return YAML(typ="rt").load(io.StringIO(text))
    except SpecError:
        raise
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark and "\n" in text else ""
        raise SpecError(f"{where}{line}: is not YAML: {one_line(error.problem)}. Mend that line.") from None
    except (YAMLError, ValueError) as error:
        raise SpecError(f"{where}: is not YAML: {one_line(error)}. Mend that place.") from None
    except Exception as error:  # as for `!!bool 7`, ruamel raises nearly anything for a value that is not of its tag
        raise SpecError(f"{where}: has a value that does not fit its tag ({one_line(error)}). Mend it.") from None


def plain(tree: Any, where: str) -> Any:
    """A tree without ruamel's own types, which JSON would take for others (a bool with an anchor for an int).

    Raises SpecError for what no specification needs and much would be spent on, and for what cannot be written in JSON.
    """
    return _Plain(where).of(tree)


class _Plain:
    def __init__(self, where: str) -> None:
        self._where, self._nodes = where, 0

    def of(self, node: Any, path: tuple[str, ...] = ()) -> Any:
        self._nodes += 1
        if len(path) > MOST_DEPTH:
            raise self._refusal(path[:3], "refers to itself. Remove the alias (*name).")
        if self._nodes > MOST_NODES:
            raise self._refusal(path[:3], f"stands for more than {MOST_NODES:,} values. Remove aliases (*name).")
        if isinstance(node, dict):
            return {self._key(key, path): self.of(value, (*path, str(key)[:40])) for key, value in node.items()}
        if isinstance(node, list):
            return [self.of(value, (*path, str(index))) for index, value in enumerate(node)]
        if isinstance(node, ScalarBoolean):
            return bool(node)
        if isinstance(node, int) and abs(node) >= MOST_NUMBER:
            raise self._refusal(path, "must be below 2 to the power of 63. Change it.")
        text = node if node is None or isinstance(node, bool | int | float | str) else str(node)
        if isinstance(text, str) and "\0" in text:
            raise self._refusal(path, "holds a NUL character. Remove it.")
        return text

    def _key(self, key: Any, path: tuple[str, ...]) -> str:
        if isinstance(key, dict | list | tuple):
            raise self._refusal(path, "has a mapping or a list for a key. Write a name.")
        if isinstance(key, int) and abs(key) >= MOST_NUMBER:
            raise self._refusal(path, "has a number of too many digits for a key. Write a name.")
        return str(key)

    def _refusal(self, path: tuple[str, ...], words: str) -> SpecError:
        return SpecError(one_line(f"{self._where}: {'.'.join(path)}{': ' if path else ''}{words}"))
