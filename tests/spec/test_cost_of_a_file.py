"""What a file may cost: whatever it holds, it is a spec or one line for each mistake, soon."""

import os
import random
import time
from pathlib import Path

import pytest

from raycnn.errors import SpecError
from raycnn.spec.reading import read_recipe, read_search, search_from_text
from raycnn.spec.search import SearchSpec
from raycnn.spec.text import MOST_BYTES

SPACES = Path(__file__).parents[2] / "search_spaces"
GOOD = """
name: small
data: {name: shapes}
model: fastnet
budget: {epochs: 2, batch_size: 100}
space: {optimizer: {sgd: {lr: {type: float, low: 0.01, high: 0.1}}}}
"""
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
SOON_S = 10.0  # on a busy machine; each takes well under a second


def refusal(text: str, *overrides: str) -> str:
    began = time.monotonic()
    with pytest.raises(SpecError) as refused:
        search_from_text(text, "space.yaml", overrides)
    assert time.monotonic() - began < SOON_S
    return str(refused.value)


@pytest.mark.parametrize(
    ("addition", "words"),
    [
        (LAUGHS, "stands for more than 50,000 values"),
        ("x: " + "[" * 20_000, "nested more than 50 deep"),
        ("x: " + "{a: " * 20_000, "nested more than 50 deep"),
        ("x:\n" + "".join(f"{' ' * n}-\n" for n in range(1, 400)), "nested more than 50 deep"),
        ("x: " + "- " * 100, "is not YAML"),
        ("x: &a [*a]\n", "space.yaml:7: x"),
        ("x: &a {b: *a}\n", "space.yaml:7: x"),
        ("x: " + "y" * MOST_BYTES, "is longer than 1,000,000 bytes"),
        ("x: !!bool 7\n", "does not fit its tag"),
        ("x: !!int abc\n", "is not YAML"),
        ("x: !!float abc\n", "is not YAML"),
        ("x: !!timestamp abc\n", "space.yaml"),
        ("x: !!binary '?'\n", "space.yaml"),
        ("x: !!python/object/apply:os.system ['true']\n", "x: unknown key"),
        ("x: " + "9" * 5000, "is not YAML"),
        ("x: 0x" + "f" * 5000, "must be below 2 to the power of 63"),
        ("9" * 30 + ": 1", "too many digits for a key"),
        ('x: "a\\0b"\n', "x: holds a NUL character"),
        ("? {a: 1}\n: 2\n", "unknown key"),
        ("? [a, b]\n: 2\n", "has a mapping or a list for a key"),
        ("name: again\n", "space.yaml"),
        ("--- \nname: other\n", "is not YAML"),
    ],
    ids=range(22),
)
def test_what_costs_much_or_means_nothing_is_one_line(addition: str, words: str):
    said = refusal(GOOD + addition)
    assert words in said, said[:300]
    assert "\n" not in said
    assert len(said) < 600


@pytest.mark.parametrize(
    "change",
    [
        "search.trials=1000000000000000000",
        "budget.epochs=1000000000000",
        "data.train_images=1000000000000000",
        "data.test_images=1000000000000000",
        "data.validation=1e300",
        "data.seed=99999999999999999999999",
        "search.corruption_images=1000000000000",
        "search.startup_trials=1000000000000",
        "search.population=1000000000000",
        "search.reduction_factor=1000000000000",
        "search.grace_epochs=1000000000000",
        "finals.top=1000000000000",
        "finals.seeds=1000000000000",
        "finals.epochs=1000000000000",
        "finals.pgd_images=1000000000000",
        "trainer.workers=1000000000000",
        "trainer.slots=1000000000000",
        "trainer.retries=1000000000000",
        "trainer.hang_s=1e300",
        "trainer.checkpoint_s=1e300",
        "trainer.cpus_per_worker=1e300",
        "budget.batch_size=1000000000000",
        "search.trials=" + "9" * 5000,
        'data.root="a\\0b"',
        "x=" + "[" * 20_000,
    ],
    ids=lambda change: change[:40],
)
def test_absurd_values_are_one_line_each(change: str):
    said = refusal(GOOD, change)
    assert change.partition("=")[0] in said
    assert "\n" not in said


def test_what_is_no_file_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for read in (read_search, read_recipe):
        for path in (tmp_path / "pipe.yaml", tmp_path, Path("/dev/zero"), Path("a\0b")):
            with pytest.raises(SpecError, match="Give the path of a YAML file"):
                read(path)
    with (tmp_path / "long.yaml").open("wb") as file:
        file.truncate(1 << 40)  # a terabyte, of which nothing is on the disk
    with pytest.raises(SpecError, match="is longer than"):
        read_search(tmp_path / "long.yaml")


def mutated(text: str, chance: random.Random) -> str:
    pieces = [
        "\0",
        "&a ",
        "*a",
        "!!bool ",
        "[",
        "{",
        "? ",
        "- ",
        ": ",
        "9" * 30,
        "1e999",
        "\t",
        "<<: *a\n",
        "~",
        "#",
        "'",
        '"',
    ]
    for _ in range(chance.randint(1, 4)):
        place, length = chance.randrange(len(text)), chance.randint(0, 12)
        match chance.randrange(4):
            case 0:
                text = text[:place] + text[place + length :]
            case 1:
                text = text[:place] + chance.choice(pieces) + text[place:]
            case 2:
                other = chance.randrange(len(text))
                text = text[:place] + text[other : other + 40] + text[place:]
            case _:
                text = text[:place] + chr(chance.randrange(1, 0x3000)) + text[place + 1 :]
    return text


def fuzz(count: int, seed: int) -> int:
    """How many of `count` mutated search spaces were still a spec. Raises what is neither a spec nor a SpecError."""
    chance, specs = random.Random(seed), 0
    texts = [path.read_text(encoding="utf-8") for path in sorted(SPACES.glob("*.yaml"))]
    for _ in range(count):
        text = mutated(chance.choice(texts), chance)
        try:
            specs += isinstance(search_from_text(text, "space.yaml"), SearchSpec)
        except SpecError as error:
            if not all(line.startswith("space.yaml") for line in str(error).split("\n")):
                raise AssertionError(f"{error} for:\n{text}") from error
        except Exception as error:
            raise AssertionError(f"{error!r} for:\n{text}") from error
    return specs


def test_a_mutated_search_space_is_a_spec_or_a_line_for_each_mistake():
    assert 0 < fuzz(150, seed=0) < 150


@pytest.mark.slow
def test_many_mutated_search_spaces_are_a_spec_or_a_line_for_each_mistake():
    assert 0 < fuzz(3000, seed=1) < 3000
