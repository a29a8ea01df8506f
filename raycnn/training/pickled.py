"""A pickle, read without calling anything that it names, in memory and time that its length bounds.

Python's own unpickler calls functions. Of those that torch.load allows with weights_only, some copy their arguments,
and some take as much memory as they are told to.
"""

import pickletools
from collections.abc import Callable, Sequence
from typing import IO, Any

_MOST_STEPS = 20_000_000
"""Of one pickle; they take a minute. A checkpoint of a thousand tensors has 30,000."""
_LONGEST_NAME = 1000

_CODES_OF_OTHERS = ("PERSID", "INST", "EXT1", "EXT2", "EXT4")  # torch.save has never written them


class Name(str):
    """`module.name` of a class or function that a pickle names."""


class Inert(dict[Any, Any]):
    """In the place of an object that is not made. It holds what the pickle puts into it by key, for it may be a
    dictionary of a kind of its own.

    of: what would have made it.
    """

    def __init__(self, of: str) -> None:
        super().__init__()
        self.of = of


def unpickled(file: IO[bytes], made: Callable[[Any, Any], Any], stored: Callable[[Any], Any]) -> Any:
    """The object of the next pickle in `file`, of numbers, texts, None, tuples, lists, dictionaries, `Name`,
    and what the two functions give.

    made: takes a function, nearly always a `Name`, and its arguments. stored: takes a persistent identity. Neither may
    copy what it is given, for a pickle can give the same again and again. Raises ValueError, and for a damaged pickle
    nearly any other error.
    """
    stack: list[Any] = []
    marked: list[list[Any]] = []  # the stacks below the marks
    memo: dict[Any, Any] = {}

    def since_mark() -> list[Any]:  # `stack` is another one after it
        nonlocal stack
        items, stack = stack, marked.pop()
        return items

    for step, (code, value, _) in enumerate(pickletools.genops(file)):
        if step == _MOST_STEPS:
            raise ValueError(f"its pickle takes more than {_MOST_STEPS:,} steps")
        match code.name:
            case "STOP":
                return stack.pop()
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                marked.append(stack)
                stack = []
            case "POP":
                stack.pop()
            case "POP_MARK":
                since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[value] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[value])
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(code.name == "NEWTRUE")
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1":
                stack.append((stack.pop(),))
            case "TUPLE2":
                stack.append((stack.pop(-2), stack.pop()))
            case "TUPLE3":
                stack.append((stack.pop(-3), stack.pop(-2), stack.pop()))
            case "TUPLE":
                items = since_mark()
                stack.append(tuple(items))
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "LIST" | "FROZENSET":
                items = since_mark()
                stack.append(items)
            case "APPEND":
                _extend(stack[-2], [stack.pop()])
            case "APPENDS" | "ADDITEMS":
                items = since_mark()
                _extend(stack[-1], items)
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                items = since_mark()
                stack.append(mapping({}, items))
            case "SETITEM":
                mapping(stack[-3], [stack.pop(-2), stack.pop()])
            case "SETITEMS":
                items = since_mark()
                mapping(stack[-1], items)
            case "GLOBAL":
                stack.append(Name(str(value).replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                stack.append(_name(stack.pop(-2), stack.pop()))
            case "REDUCE" | "NEWOBJ":
                stack.append(made(stack.pop(-2), stack.pop()))
            case "NEWOBJ_EX":
                stack.append(made(stack.pop(-3), stack.pop(-2)))
                stack.pop(-2)  # arguments by name
            case "BUILD":
                stack.pop()  # what the object would have been told
            case "BINPERSID":
                stack.append(stored(stack.pop()))
            case _ if code.arg is not None and code.name not in _CODES_OF_OTHERS:
                stack.append(value)  # a number or a text
            case _:
                raise ValueError(f"its pickle holds {code.name}")
    raise ValueError("its pickle has no end")


def _name(module: Any, name: Any) -> Name:
    # Of texts that are short: a name of a name could be twice as long at each step.
    if type(module) is not str or type(name) is not str or len(module) + len(name) > _LONGEST_NAME:
        raise ValueError("its pickle names something in an unknown way")
    return Name(f"{module}.{name}")


def _extend(target: Any, items: Sequence[Any]) -> None:
    """Changes `target`, if it is a list and not one of a kind of its own."""
    if isinstance(target, list):
        target.extend(items)


def mapping(target: Any, items: Sequence[Any]) -> Any:
    """Changes `target`, a dictionary: items are keys and values in turn. Returns it."""
    if not isinstance(target, dict) or len(items) % 2:
        raise ValueError("its pickle is damaged")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Of others, such as deep tuples, the hash could overflow C's stack. Nobody looks for them.
        if isinstance(key, str | int | float | bytes | None):
            target[key] = value
    return target
