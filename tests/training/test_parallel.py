"""Two processes with gloo are held to one: the same batches, the same gradients, the same evaluation."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from raycnn import models
from raycnn.models.classifier import Classifier
from raycnn.spec.trial import (
    Augmix,
    Cutmix,
    Cutout,
    Mixup,
    Optimizer,
    Regularizers,
    Rotation,
    Sgd,
    TrialSpec,
    Trivialaugment,
)
from raycnn.training.batches import Group, Images, batch_at, epoch_choices
from raycnn.training.evaluate import evaluate
from raycnn.training.log import EpochRecord
from raycnn.training.loop import TrainingData, TrainingDiverged, share_weight, train
from raycnn.training.loss import StepLogits, training_loss

BATCH = 7  # not divisible by two: the ranks' shares differ
EVERYTHING = Regularizers(
    cutout=Cutout(size_px=2),
    mixup=Mixup(alpha=1.0),
    cutmix=Cutmix(),
    rotation=Rotation(weight=0.5),
    trivialaugment=Trivialaugment(),
    augmix=Augmix(),
    crop_px=1,
)


class Stop(Exception):
    pass


def measure(group: Group, data: TrainingData, spec: TrialSpec, directory: Path) -> dict[str, Any]:
    """What is compared: gradients of one step, an evaluation, and whole trainings, as this rank sees them."""
    records: list[EpochRecord] = []
    trained = train(spec, data, torch.device("cpu"), group=group, directory=directory, on_epoch=records.append)

    def stop(record: EpochRecord) -> None:
        raise Stop

    def outcome(changed: TrialSpec, **options: Any) -> str:
        try:
            train(changed, data, torch.device("cpu"), group=group, **options)
        except (Stop, TrainingDiverged) as error:
            return type(error).__name__
        return "finished"

    coarse: list[EpochRecord] = []
    train(
        spec.model_copy(update={"gradient_precision": "bf16"}),
        data,
        torch.device("cpu"),
        group=group,
        on_epoch=coarse.append,
    )
    return {
        "gradients": gradients(group, data.train),
        "bf16": [(r.train_loss, r.metrics) for r in coarse],
        "evaluation": evaluate(trained, data.validation, "fp32", Group()),
        "shared_evaluation": evaluate(trained, data.validation, "fp32", group),
        "metrics": [(r.train_loss, r.metrics) for r in records],
        "state": trained.state_dict(),
        "stopped": outcome(spec, on_epoch=stop),
        "diverged": outcome(
            spec.model_copy(update={"optimizer": Optimizer(sgd=Sgd(lr=100, weight_decay=10)), "epochs": 60})
        ),
    }


def gradients(group: Group, images: Images) -> dict[str, torch.Tensor]:
    """Of one step with all regularizers, batch norm in eval mode: there, and only there, ranks are independent."""
    torch.manual_seed(0)
    classifier = Classifier(models.build("fastnet", 8), 3, (0.35,) * 3, (0.2,) * 3, rotation=True).eval()
    model: torch.nn.Module = StepLogits(classifier)
    if group.size > 1:
        model = DistributedDataParallel(model, broadcast_buffers=False)
    choices = epoch_choices(images, BATCH, EVERYTHING, 0, 1, group)
    batch = batch_at(images, choices, torch.zeros(1, dtype=torch.long), EVERYTHING, classifier.normalise)
    (training_loss(model, batch, EVERYTHING) * share_weight(BATCH, group)).backward()
    return {name: p.grad for name, p in classifier.named_parameters() if p.grad is not None}


def run_rank(rank: int, size: int, data: TrainingData, spec: TrialSpec, folder: str) -> None:
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    result = measure(Group(rank, size), data, spec, Path(folder, f"training-{size}"))
    torch.save(result, Path(folder, f"{rank}-of-{size}.pt"))
    if size > 1:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The results of one process alone, and of both ranks of two."""
    from conftest import labelled_images

    folder = str(tmp_path_factory.mktemp("parallel"))
    data = TrainingData(labelled_images(200, 0), labelled_images(51, 1), None, (0.35,) * 3, (0.2,) * 3, 3)
    optimizer = Optimizer(sgd=Sgd(lr=0.05))
    spec = TrialSpec(
        model="fastnet",
        epochs=6,
        batch_size=33,
        optimizer=optimizer,
        precision="fp32",
        regularizers=Regularizers(crop_px=1, ema_decay=0.5),
    )
    mp.spawn(run_rank, (2, data, spec, folder), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
    mp.spawn(run_rank, (1, data, spec, folder), nprocs=1)  # pyright: ignore[reportPrivateImportUsage]
    return {path.stem: torch.load(path) for path in Path(folder).glob("*-of-*.pt")}


def test_two_ranks_give_the_gradients_of_one(measured: dict[str, dict[str, Any]]):
    alone = measured["0-of-1"]["gradients"]
    assert len(alone) > 10
    for rank in ("0-of-2", "1-of-2"):
        for name, gradient in measured[rank]["gradients"].items():
            assert torch.allclose(gradient, alone[name], rtol=1e-4, atol=1e-6), name


def test_both_ranks_end_with_the_same_model_and_the_same_records(measured: dict[str, dict[str, Any]]):
    first, second = measured["0-of-2"], measured["1-of-2"]
    assert first["metrics"] == second["metrics"]
    for name, value in first["state"].items():
        assert torch.equal(second["state"][name], value), name


def test_an_evaluation_that_is_shared_counts_each_image_once(measured: dict[str, dict[str, Any]]):
    for result in measured.values():
        assert result["shared_evaluation"] == pytest.approx(result["evaluation"], rel=1e-6)


def test_one_and_two_workers_learn_the_same(measured: dict[str, dict[str, Any]]):
    assert all(result["evaluation"][0] < 0.1 for result in measured.values())


def test_all_ranks_stop_and_diverge_together(measured: dict[str, dict[str, Any]]):
    assert {result["stopped"] for result in measured.values()} == {"Stop"}
    assert {result["diverged"] for result in measured.values()} == {"TrainingDiverged"}


def test_gradients_exchanged_in_bf16_lead_to_nearly_the_same_place(measured: dict[str, dict[str, Any]]):
    alone, first, second = (measured[name] for name in ("0-of-1", "0-of-2", "1-of-2"))
    assert alone["bf16"] == alone["metrics"]  # nothing is exchanged
    assert first["bf16"] == second["bf16"]
    assert first["bf16"] != first["metrics"]
    for (coarse, _), (fine, _) in zip(first["bf16"], first["metrics"], strict=True):
        assert coarse == pytest.approx(fine, rel=0.02, abs=0.01)
