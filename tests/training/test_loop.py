import ast
import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from raycnn.errors import SpecError
from raycnn.models.classifier import Classifier
from raycnn.spec.trial import (
    Adamw,
    Augmix,
    Cutmix,
    Cutout,
    Mixup,
    Muon,
    Optimizer,
    Regularizers,
    Rotation,
    Schedule,
    Sgd,
    TrialSpec,
    Trivialaugment,
)
from raycnn.training import loop, steps
from raycnn.training.batches import Group, batch_at, epoch_choices
from raycnn.training.checkpoint import LAST, load_classifier
from raycnn.training.evaluate import evaluate
from raycnn.training.log import EpochRecord
from raycnn.training.loop import TrainingData, TrainingDiverged, train

CPU = torch.device("cpu")
EVERYTHING = Regularizers(
    cutout=Cutout(size_px=2),
    mixup=Mixup(alpha=0.3),
    cutmix=Cutmix(),
    rotation=Rotation(weight=0.3),
    crop_px=1,
    label_smoothing=0.1,
    ema_decay=0.9,
    augmix=Augmix(),
    trivialaugment=Trivialaugment(),
    sam_rho=0.05,
    alternating_flip=True,
)


class Stop(Exception):
    pass


def with_(spec: TrialSpec, **changes: Any) -> TrialSpec:
    return TrialSpec.model_validate(dict(spec) | changes)


def records_of(spec: TrialSpec, data: TrainingData, **options: Any) -> list[EpochRecord]:
    records: list[EpochRecord] = []
    train(spec, data, CPU, on_epoch=records.append, **options)
    return records


def numbers(records: list[EpochRecord]) -> list[tuple[Any, ...]]:
    """All of the records but the times."""
    return [(r.epoch, r.images, r.lr, r.train_loss, r.metrics) for r in records]


@pytest.mark.parametrize(
    "optimizer", [Optimizer(sgd=Sgd(lr=0.05)), Optimizer(adamw=Adamw(lr=0.01)), Optimizer(muon=Muon(lr=0.02))]
)
def test_a_network_learns_what_can_be_learnt(spec: TrialSpec, data: TrainingData, optimizer: Optimizer):
    plain = Regularizers(crop_px=1)
    last = records_of(with_(spec, epochs=8, batch_size=25, optimizer=optimizer, regularizers=plain), data)[-1]
    assert last.metrics["val/clean_error"] < 0.1
    assert last.metrics["val/corruption_error"] < 0.1
    assert last.train_loss < 0.5


def test_records_count_epochs_and_images_and_give_the_realised_learning_rate(spec: TrialSpec, data: TrainingData):
    beats: list[None] = []
    records = records_of(spec, data, on_step=lambda: beats.append(None))
    assert [record.epoch for record in records] == [1, 2]
    assert [record.images for record in records] == [192, 384]  # 3 steps of 64: the incomplete fourth is dropped
    assert 0 < records[1].lr < records[0].lr < 0.05
    assert len(beats) == 6
    assert all(record.train_s > 0 and record.evaluate_s > 0 for record in records)


def test_corruptions_are_evaluated_when_asked_for_and_at_the_end(spec: TrialSpec, data: TrainingData):
    records = records_of(with_(spec, epochs=4), data, corruption_epochs=frozenset({2}))
    assert ["val/corruption_error" in record.metrics for record in records] == [False, True, False, True]


def test_training_on_all_images_takes_the_validation_images_too(spec: TrialSpec, data: TrainingData):
    records = records_of(with_(spec, batch_size=50, train_on="all"), data)
    assert records[0].images == 250
    assert [record.metrics for record in records] == [{}, {}]


def test_the_same_spec_gives_the_same_numbers_as_the_tenth_training_and_in_a_fresh_process(
    spec: TrialSpec, data: TrainingData, tmp_path: Path
):
    spec = with_(spec, epochs=1, regularizers=EVERYTHING)
    torch.save(
        (data.train.images, data.train.labels, data.validation.images, data.validation.labels), tmp_path / "data"
    )
    program = """
import sys, torch
from raycnn.spec.trial import TrialSpec
from raycnn.training.loop import Images, TrainingData, train
torch.set_num_threads(int(sys.argv[3]))
a, b, c, d = torch.load(sys.argv[2])
data = TrainingData(Images(a, b), Images(c, d), None, (0.35,) * 3, (0.2,) * 3, 3)
spec = TrialSpec.model_validate_json(sys.argv[1])
train(spec, data, torch.device("cpu"), on_epoch=lambda r: print((r.train_loss, r.metrics)))
"""
    arguments = [spec.model_dump_json(), str(tmp_path / "data"), str(torch.get_num_threads())]
    fresh = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    data = TrainingData(data.train, data.validation, None, data.mean, data.std, data.classes)
    for seed in range(9):
        torch.manual_seed(seed)  # what others do with the global state does not matter
        records_of(with_(spec, seed=seed, batch_size=100), data)
    (tenth,) = records_of(spec, data)
    assert ast.literal_eval(fresh.stdout) == (tenth.train_loss, tenth.metrics)


def test_a_training_leaves_the_global_random_state_alone(spec: TrialSpec, data: TrainingData):
    before = torch.get_rng_state()
    train(with_(spec, epochs=1, regularizers=EVERYTHING), data, CPU)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "optimizer", [Optimizer(sgd=Sgd(lr=0.05)), Optimizer(adamw=Adamw(lr=0.01)), Optimizer(muon=Muon(lr=0.02))]
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(
    spec: TrialSpec, data: TrainingData, tmp_path: Path, optimizer: Optimizer, precision: str
):
    spec = with_(spec, epochs=4, optimizer=optimizer, regularizers=EVERYTHING, precision=precision)
    records: list[EpochRecord] = []
    whole = train(spec, data, CPU, on_epoch=records.append)

    def stop_after_two(record: EpochRecord) -> None:
        if record.epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        train(spec, data, CPU, directory=tmp_path, checkpoint_s=0, on_epoch=stop_after_two)
    rest: list[EpochRecord] = []
    resumed = train(spec, data, CPU, directory=tmp_path, on_epoch=rest.append)
    assert numbers(rest) == numbers(records[1:])  # the second epoch's record is told again
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_a_finished_training_only_tells_its_last_record_again(spec: TrialSpec, data: TrainingData, tmp_path: Path):
    first = records_of(spec, data, directory=tmp_path)
    beats: list[None] = []
    assert records_of(spec, data, directory=tmp_path, on_step=lambda: beats.append(None)) == first[-1:]
    assert beats == []


def test_checkpoints_are_written_no_more_often_than_asked_but_at_the_end(
    spec: TrialSpec, data: TrainingData, tmp_path: Path
):
    seen: list[bool] = []
    train(
        spec,
        data,
        CPU,
        directory=tmp_path,
        checkpoint_s=1e9,
        on_epoch=lambda _: seen.append((tmp_path / LAST).exists()),
    )
    assert seen == [False, True]


def test_the_average_of_weights_follows_its_formula_and_is_what_is_evaluated_and_scored(
    spec: TrialSpec, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[dict[str, torch.Tensor]] = []
    average = steps._average

    def watched(averaged: Classifier, model: Classifier, decay: float) -> None:
        seen.append({name: value.detach().clone() for name, value in model.state_dict().items()})
        average(averaged, model, decay)

    monkeypatch.setattr(steps, "_average", watched)
    spec = with_(spec, regularizers=Regularizers(crop_px=1, ema_decay=0.6))
    records: list[EpochRecord] = []
    result = train(spec, data, CPU, directory=tmp_path, on_epoch=records.append)
    assert len(seen) == 6
    for name, value in result.state_dict().items():
        if value.is_floating_point():
            expected = seen[0][name]
            for weights in seen[1:]:
                expected = 0.6 * expected + 0.4 * weights[name]
            assert torch.allclose(value, expected, atol=1e-6), name
    metrics = records[-1].metrics
    assert evaluate(result, data.validation, "fp32", Group()) == (metrics["val/clean_error"], metrics["val/clean_loss"])
    scored = load_classifier(tmp_path / LAST).state_dict()
    assert all(torch.equal(scored[name], value) for name, value in result.state_dict().items())


def test_a_training_that_diverges_is_stopped_within_its_epoch(spec: TrialSpec, data: TrainingData):
    steps: list[int] = []
    wild = with_(
        spec,
        epochs=2,
        batch_size=4,
        optimizer=Optimizer(sgd=Sgd(lr=100, weight_decay=10)),
        schedule=Schedule(name="constant", warmup=0),
    )
    with pytest.raises(TrainingDiverged, match="epoch 1: "):
        train(wild, data, CPU, on_step=lambda: steps.append(1))
    assert len(steps) < len(data.train.labels) // 4


def test_a_training_that_diverges_says_where(spec: TrialSpec, data: TrainingData):
    spec = with_(spec, epochs=50, optimizer=Optimizer(sgd=Sgd(lr=100, weight_decay=10)))
    with pytest.raises(TrainingDiverged, match=r"epoch \d+: the training loss is (nan|inf) at learning rate \d"):
        train(spec, data, CPU)


def test_a_batch_larger_than_the_data_is_refused(spec: TrialSpec, data: TrainingData):
    with pytest.raises(SpecError, match=r"budget.batch_size: 201 is more than the 200 training images\. Lower it\."):
        train(with_(spec, batch_size=201), data, CPU)


def one_step(spec: TrialSpec, data: TrainingData, **changes: Any) -> tuple[Classifier, Classifier]:
    """The classifiers before and after a single plain step of SGD without momentum and weight decay."""
    spec = with_(spec, epochs=1, batch_size=200, schedule=Schedule(name="constant", warmup=0.0), **changes)
    before = loop._new_classifier(spec, data, Group(), CPU)
    return before, train(spec, data, CPU)


def distance(before: Classifier, after: Classifier) -> float:
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return sum(float((a - b).detach().square().sum()) for a, b in pairs) ** 0.5


@pytest.mark.parametrize("longest", [1e-3, 1e9])
def test_a_long_gradient_is_shortened_to_the_limit(spec: TrialSpec, data: TrainingData, longest: float):
    plain = Sgd(lr=0.1, momentum=0.0, weight_decay=0.0, nesterov=False)
    free = distance(*one_step(spec, data, optimizer=Optimizer(sgd=plain)))
    clipped = plain.model_copy(update={"clip_norm": longest})
    length = distance(*one_step(spec, data, optimizer=Optimizer(sgd=clipped)))
    assert length == pytest.approx(min(free, 0.1 * longest), rel=1e-3)


def test_sharpness_aware_steps_take_the_gradient_of_the_point_up_the_slope(spec: TrialSpec, data: TrainingData):
    plain = Optimizer(sgd=Sgd(lr=0.1, momentum=0.0, weight_decay=0.0, nesterov=False))
    quiet = Regularizers(crop_px=0, flip=False, sam_rho=0.05)
    before, after = one_step(spec, data, optimizer=plain, regularizers=quiet)

    def gradients(model: Classifier) -> list[torch.Tensor]:
        choices = epoch_choices(data.train, 200, quiet, spec.seed, 1, Group())
        batch = batch_at(data.train, choices, torch.zeros(1, dtype=torch.long), quiet, model.normalise)
        loss = torch.nn.functional.cross_entropy(model.head(model.features(batch.images)), batch.labels)
        return list(torch.autograd.grad(loss, list(model.parameters())))

    uphill = copy.deepcopy(before).train()
    slope = gradients(uphill)
    length = sum(float(g.square().sum()) for g in slope) ** 0.5
    with torch.no_grad():
        for parameter, g in zip(uphill.parameters(), slope, strict=True):
            parameter += 0.05 * g / length
    for start, end, g in zip(before.parameters(), after.parameters(), gradients(uphill), strict=True):
        assert torch.allclose(end, start - 0.1 * g, atol=1e-6)


def test_networks_draw_from_a_state_of_the_epoch_alone(spec: TrialSpec, data: TrainingData, tmp_path: Path):
    spec = with_(spec, model="preact18", epochs=2, batch_size=100, regularizers=Regularizers(dropout=0.3))
    whole: list[EpochRecord] = []
    train(spec, data, CPU, on_epoch=whole.append)
    torch.rand(5)
    rest: list[EpochRecord] = []

    def stop(record: EpochRecord) -> None:
        raise Stop

    with pytest.raises(Stop):
        train(spec, data, CPU, directory=tmp_path, checkpoint_s=0, on_epoch=stop)
    train(spec, data, CPU, directory=tmp_path, on_epoch=rest.append)
    assert numbers(rest) == numbers(whole)
    without = records_of(with_(spec, regularizers=Regularizers()), data)
    assert without[-1].train_loss != whole[-1].train_loss


def test_batch_norm_over_all_workers_is_refused_on_processors(spec: TrialSpec, data: TrainingData):
    with pytest.raises(SpecError, match=r"trainer.sync_batchnorm: works on GPUs only"):
        train(with_(spec, sync_batchnorm=True), data, CPU, group=Group(0, 2))
