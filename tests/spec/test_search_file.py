"""A search file and its --set flags: what is read, and how a mistake is told."""

import re
from pathlib import Path

import pytest

from raycnn.errors import SpecError
from raycnn.spec.reading import read_search, search_from_text
from raycnn.spec.space import FloatRange, IntRange, parameters

SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))

TEXT = """\
name: small
data: {name: shapes}
model: fastnet
budget: {epochs: 3, batch_size: 64}
space:
  regularizers:
    cutout:
      choice:
        off: {}
        on: {size_px: {type: int, low: 2, high: 20, step: 2}}
    label_smoothing: 0.1
  optimizer:
    sgd: {lr: {type: float, low: 0.01, high: 0.5, log: true}}
search: {trials: 8}
"""


def mistake(old: str, new: str, *overrides: str) -> str:
    assert old in TEXT
    with pytest.raises(SpecError) as caught:
        search_from_text(TEXT.replace(old, new), "a.yaml", overrides)
    return str(caught.value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_search_space_is_valid_and_searches_every_regularizer(path: Path):
    spec = read_search(path)
    names = {named.name for named in parameters(spec.space)}
    assert {"cutout", "cutout.size_px", "mixup.alpha", "rotation.weight"} <= names
    assert spec.search.objectives[0] == "val/clean_error"


def test_four_search_spaces_are_shipped():
    assert [path.stem for path in SHIPPED] == ["joint", "multi_gpu", "quickstart", "regularizers"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_resolved_spec_written_as_json_is_read_back_equal(path: Path):
    spec = read_search(path)
    assert search_from_text(spec.model_dump_json(), "spec.yaml") == spec


def test_numbers_are_those_of_yaml_1_2():
    spec = search_from_text(TEXT.replace("low: 0.01", "low: 1e-3"), "a.yaml")
    (lr,) = [named.parameter for named in parameters(spec.space) if named.name == "optimizer.sgd.lr"]
    assert isinstance(lr, FloatRange)
    assert lr.low == 0.001


def test_a_mistake_is_told_with_file_line_key_value_and_mend():
    assert mistake("epochs: 3", "epochs: three") == (
        'a.yaml:4: budget.epochs: must be a whole number, got "three". Change it.'
    )


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "says"),
    [
        ("model:", "modle:", 3, "modle", "Did you mean model?"),
        ("batch_size", "batchsize", 4, "budget.batchsize", "Did you mean batch_size?"),
        ("size_px", "size", 10, "space.regularizers.cutout.choice.on.size", "Did you mean size_px?"),
        ("sgd:", "sdg:", 13, "space.optimizer.sdg", "Did you mean sgd?"),
        ("{lr:", "{rate: 1.0, lr:", 13, "space.optimizer.sgd.rate", "Known here: lr, momentum"),
        ("fastnet", "resnet_20", 3, "model", "Did you mean resnet20?"),
        ("search:", "trials: 4\nsearch:", 14, "trials", "Did you mean search.trials?"),
        ("search:", "seed: 4\nsearch:", 14, "seed", "Did you mean data.seed or search.seed?"),
        (
            "label_smoothing: 0.1",
            "lr: 0.1",
            11,
            "space.regularizers.lr",
            "space.optimizer.sgd.lr, space.optimizer.adamw",
        ),
        ("model:", "training: {batch_size: 3}\nmodel:", 3, "training", "Did you mean budget.batch_size?"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest_known(old: str, new: str, line: int, key: str, says: str):
    text = mistake(old, new)
    assert text.startswith(f"a.yaml:{line}: {key}: ")
    assert says in text


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("epochs: 3", "epochs: 3.0", "budget.epochs: must be a whole number, got 3.0. Write 3."),
        ("epochs: 3", "epochs: '3'", 'budget.epochs: must be a whole number, got "3". Write it without quotes.'),
        ("epochs: 3", "epochs: true", "budget.epochs: must be a whole number, got true."),
        ("epochs: 3", "epochs: ", "budget.epochs: must be a whole number, got nothing. Give one."),
        ("epochs: 3", "epochs: 0", "budget.epochs: must be >= 1, got 0."),
        ("{name: shapes}", "[shapes]", 'data: must be a mapping, got ["shapes"].'),
        ("{name: shapes}", "{name: shapes, verify: yes}", 'data.verify: must be true or false, got "yes". Write true.'),
        ("{name: shapes}", "{name: shapes, validation: 2.5}", "data.validation: must be a whole number or a fraction"),
        ("high: 0.5", "high: .inf", "space.optimizer.sgd.lr.high: must be a finite number, got Infinity."),
        ("0.1", "off", "space.regularizers.label_smoothing: must be a number"),
        ("0.1", "[0.1]", "space.regularizers.label_smoothing: must be a number, got [0.1]."),
        ("type: float, low", "low", "space.optimizer.sgd.lr.type: is missing. Add type: float or type: int."),
        ("name: small", "name: a/b", "name: may hold letters, digits, '.', '_' and '-', got \"a/b\". Rename it."),
    ],
)
def test_a_wrong_type_is_told_with_what_came(old: str, new: str, says: str):
    assert says in mistake(old, new)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("low: 0.01, high: 0.5", "low: 0.5, high: 0.01", "low must be below high, got low=0.5, high=0.01. Swap them."),
        ("low: 0.01, high: 0.5", "low: 0.5, high: 0.5", "got low=0.5, high=0.5. Write a constant."),
        ("low: 0.01", "low: 0", "a log scale cannot reach 0, got low=0.0. Raise low above 0, or write log: false."),
        ("log: true", "log: true, step: 0.1", "step and log: true exclude each other."),
        ("high: 20", "high: 21", "high must be low and a number of steps, got low=2, high=21, step=2. Write high: 20."),
        ("step: 2", "step: 40", "got low=2, high=20, step=40. Write a smaller step."),
        ("0.1", "{choice: [0.0, 0.1, 0.0]}", "label_smoothing.choice.2: 0.0 is there already. Remove it."),
        ("0.1", "{choice: []}", "label_smoothing.choice: is empty. Name at least one."),
        ("off: {}", "of: {}", "cutout.choice.of: only the branch off is empty."),
        ("off: {}", "a b: {size_px: 3}", "cutout.choice.a b: a branch's name holds letters"),
        (
            "sgd: {lr",
            "adamw: {lr: 0.1}\n    sgd: {lr",
            "space.optimizer: needs exactly one of sgd, adamw, muon and choice.",
        ),
    ],
)
def test_an_impossible_range_or_choice_is_told_with_the_mend(old: str, new: str, says: str):
    assert says in mistake(old, new)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("{type: float, low: 0.01, high: 0.5, log: true}", "[0.3, 0.1]", "got [0.3, 0.1]. Write {choice: [0.3, 0.1]}."),
        (
            "{type: float, low: 0.01, high: 0.5, log: true}",
            "[0.1, 0.2]",
            "Write {choice: [0.1, 0.2]}, or all between: {type: float, low: 0.1, high: 0.2}.",
        ),
        (
            "{type: int, low: 2, high: 20, step: 2}",
            "[8, 16]",
            "Write {choice: [8, 16]}, or all between: {type: int, low: 8, high: 16}.",
        ),
        ("label_smoothing: 0.1", "flip: [true, false]", "Write {choice: [true, false]}."),
        ("label_smoothing: 0.1", "crop_padding: [zero, reflect]", "Write {choice: [zero, reflect]}."),
        ("sgd: {lr: {type: float, low: 0.01, high: 0.5, log: true}}", "adamw: {lr: [1]}", "Write {choice: [1]}."),
        ("{name: shapes}", "shapes", 'data: must be a mapping, got "shapes". Write {name: shapes}.'),
        ("trials: 8", "objectives: val/clean_error", 'must be a list, got "val/clean_error". Write [val/clean_error].'),
    ],
)
def test_a_value_of_another_shape_is_told_how_it_is_written_and_that_is_taken(old: str, new: str, says: str):
    text = mistake(old, new)
    assert says in text
    key, value = text.split(": ")[1], text.split("Write ")[1].removesuffix(".").split(", or all")[0]
    search_from_text(TEXT.replace(old, new), "a.yaml", [f"{key}={value}"])


@pytest.mark.parametrize(
    ("asked", "wanted", "also"),
    [
        ("val/accuracy", "val/clean_error", "Errors are minimised"),
        ("val_acc", "val/clean_error", "Errors are minimised"),
        ("accuracy", "val/clean_error", "Errors are minimised"),
        ("robust_accuracy", "val/corruption_error", "Errors are minimised"),
        ("test/error", "val/clean_error", "A search never sees the test images."),
        ("test_acc", "val/clean_error", "Errors are minimised, not accuracies maximised. A search never sees the test"),
        ("error", "val/clean_error", ""),
        ("mCE", "val/corruption_error", ""),
        ("loss", "val/clean_loss", ""),
        ("time", "cost/seconds", ""),
    ],
)
def test_another_name_of_an_objective_leads_to_ours(asked: str, wanted: str, also: str):
    text = mistake("trials: 8", f"objectives: [{asked}]")
    assert f"Did you mean {wanted}? {also}".rstrip() in text


@pytest.mark.parametrize(("low", "high", "step"), [(0.1, 0.7, 0.2), (0.0, 0.3, 0.1)])
def test_steps_are_counted_in_decimal(low: float, high: float, step: float):
    assert (high - low) % step > 1e-3  # what binary fractions make of it
    text = f"{{type: float, low: {low}, high: {high}, step: {step}}}"
    spec = search_from_text(TEXT.replace("label_smoothing: 0.1", f"label_smoothing: {text}"), "a.yaml")
    assert "label_smoothing" in [named.name for named in parameters(spec.space)]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("high: 20", "high: 1000", "10: space.regularizers.cutout.choice.on.size_px.high: must be <= 512, got 1000."),
        ("low: 2", "low: 0", "10: space.regularizers.cutout.choice.on.size_px.low: must be >= 1, got 0."),
        (
            "{lr:",
            "{momentum: {type: float, low: 0.9, high: 1.0}, lr:",
            "13: space.optimizer.sgd.momentum.high: must be <",
        ),
        (
            "label_smoothing: 0.1",
            "label_smoothing: 1.0",
            "11: space.regularizers.label_smoothing: must be < 1.0, got 1.0",
        ),
        ("0.1", "{choice: [0.1, 1.5]}", "11: space.regularizers.label_smoothing.choice.1: must be < 1.0, got 1.5."),
        (
            "label_smoothing: 0.1",
            "rotation: {weight: 0}",
            "11: space.regularizers.rotation.weight: must be > 0.0, got 0",
        ),
        ("{type: float, low: 0.01, high: 0.5, log: true}", "200.0", "13: space.optimizer.sgd.lr: must be <= 100.0"),
    ],
)
def test_a_value_that_no_training_may_have_is_told_where_it_stands(old: str, new: str, says: str):
    assert f"a.yaml:{says}" in mistake(old, new)


@pytest.mark.parametrize("value", ["on", "yes", "true", "4"])
def test_a_regularizer_that_is_neither_off_nor_values_is_told_its_forms(value: str):
    text = mistake("label_smoothing: 0.1", f"rotation: {value}")
    assert "space.regularizers.rotation: must be off, its values {…} or a choice {choice: {…}}, got " in text


def test_a_flag_has_no_range():
    text = mistake("label_smoothing: 0.1", "flip: {type: int, low: 0, high: 1}")
    assert "space.regularizers.flip: must be a constant or a choice {choice: …}, got {" in text


def test_a_share_of_a_gpu_for_several_workers_is_refused():
    assert mistake("search:", "trainer: {workers: 2, gpus_per_worker: 0.5}\nsearch:") == (
        "a.yaml:14: trainer.gpus_per_worker: NCCL refuses two workers of a trial on one GPU, "
        "got 0.5 with workers=2. Write 1, or workers: 1."
    )


@pytest.mark.parametrize("trainer", ["{workers: 1, gpus_per_worker: 0.25}", "{workers: 2, gpus_per_worker: 1}"])
def test_a_gpu_share_for_one_worker_and_whole_gpus_for_several_are_taken(trainer: str):
    assert search_from_text(f"{TEXT}trainer: {trainer}\n", "a.yaml").trainer.gpus_per_worker in (0.25, 1)


def test_objectives_are_known_and_named_once():
    assert "Did you mean val/clean_error?" in mistake("trials: 8", "objectives: [clean_error]")
    assert "search.objectives.1: val/clean_error is there already. Remove it." in mistake(
        "trials: 8", "objectives: [val/clean_error, val/clean_error]"
    )


def test_every_mistake_of_a_file_has_its_line():
    lines = mistake("epochs: 3, batch_size: 64", "epochs: 0, batch_size: 1").splitlines()
    assert [line.split(": ")[1] for line in lines] == ["budget.epochs", "budget.batch_size"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("model: fastnet", "model: {"),
        ("model: fastnet", "model: *nothing"),
        ("model: fastnet", "model: fastnet\nmodel: resnet18"),
        ("model: fastnet", "model: fast\x00net"),
        ("model: fastnet", 'model: "\\ud800"'),
        ("model: fastnet", "model: &loop [*loop]"),
        ("data: {name: shapes}", "data: &loop {name: *loop}"),
        ("epochs: 3", f"epochs: {'9' * 5000}"),
        ("{name: shapes}", "[" * 500 + "]" * 500),
        ("model:", '"mo\\ndel":'),
        ("model:", "? [a]\n:"),
        ("model:", "null:"),
        ("low: 0.01", "low: 1e-300, step: 1e-300"),
    ],
)
def test_strange_text_ends_in_one_printable_line(old: str, new: str):
    text = mistake(old, new)
    assert text.startswith("a.yaml")
    assert text.isprintable()
    assert len(text) < 300


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "shapes\n"])
def test_a_file_without_keys_is_refused(text: str):
    with pytest.raises(SpecError, match=r"^a\.yaml: holds no mapping\."):
        search_from_text(text, "a.yaml")


def test_a_file_that_cannot_be_read_is_told_as_one_line(tmp_path: Path):
    (tmp_path / "latin.yaml").write_bytes("name: \xe9".encode("latin-1"))
    for path, says in (
        (tmp_path / "absent.yaml", "No such file"),
        (tmp_path, "directory"),
        (tmp_path / "latin.yaml", "UTF-8"),
    ):
        with pytest.raises(SpecError, match=re.escape(str(path))) as caught:
            read_search(path)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)


def test_set_replaces_a_constant_a_range_and_a_whole_section():
    spec = search_from_text(
        TEXT,
        "a.yaml",
        [
            "budget.epochs=4",
            "space.optimizer.sgd.lr=0.1",
            "space.regularizers.cutout={size_px: {type: int, low: 4, high: 8}}",
            "finals=off",
            "search.objectives=[val/corruption_error]",
        ],
    )
    assert spec.budget.epochs == 4
    assert spec.finals == "off"
    assert spec.search.objectives == ["val/corruption_error"]
    assert [(named.name, named.parameter) for named in parameters(spec.space)] == [
        ("cutout.size_px", IntRange(type="int", low=4, high=8))
    ]


def test_set_makes_the_sections_on_its_way_and_the_last_one_wins():
    spec = search_from_text(TEXT, "a.yaml", ["space.schedule.warmup=0.2", "trainer.workers=2", "trainer.workers=3"])
    assert spec.space.schedule.warmup == 0.2
    assert spec.trainer.workers == 3


def test_set_changes_one_end_of_a_range():
    spec = search_from_text(TEXT, "a.yaml", ["space.optimizer.sgd.lr.high=1.0"])
    assert [named.parameter.high for named in parameters(spec.space) if isinstance(named.parameter, FloatRange)] == [
        1.0
    ]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("budget.epochs", "--set budget.epochs: is no key.path=value."),
        ("=3", "--set =3: is no key.path=value."),
        ("a..b=3", "--set a..b=3: is no key.path=value."),
        ("budget.epochs=four", '--set: budget.epochs: must be a whole number, got "four".'),
        ("budget.epochs=", "--set: budget.epochs: must be a whole number, got nothing."),
        ("bugdet.epochs=4", "--set: bugdet: unknown key. Did you mean budget?"),
        ("data.roots.x=4", "--set: data.roots: unknown key. Did you mean root?"),
        ("model=[1", "--set model: is not YAML:"),
        ("space.optimizer.sgd.lr=1000.0", "--set: space.optimizer.sgd.lr: must be <= 100.0, got 1000.0."),
    ],
)
def test_a_mistake_in_a_set_is_not_blamed_on_the_file(override: str, says: str):
    text = mistake("", "", override)
    assert text.startswith(says)
    assert "\n" not in text


@pytest.mark.parametrize(("trials", "says"), [("0", "must be >= 1, got 0."), ("9999999", "must be <= 1000000")])
def test_a_mistake_in_a_flag_is_blamed_on_that_flag(trials: str, says: str):
    with pytest.raises(SpecError) as caught:
        search_from_text(TEXT, "a.yaml", ["search.trials=5"], {"--trials": f"search.trials={trials}"})
    assert str(caught.value).startswith(f"--trials: {says}")
