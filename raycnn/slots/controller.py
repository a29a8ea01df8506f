"""One run of Ray Train's controller: it starts a slot's worker group, and another when that is lost, as long as the hub
wants one. The calls to Ray Train that are not public are those of the pinned version."""

import contextlib
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train.v2._internal.execution.failure_handling import FailureDecision, FailurePolicy
from ray.train.v2.api.config import FailureConfig
from ray.train.v2.api.exceptions import WorkerGroupError

from raycnn.slots.reasons import reason_of


class HubDecides(FailurePolicy):
    """In the controller. Ray Train's own policy counts failures and never forgets any; the hub knows which group had
    started, and hears of each one that had not. Whatever else fails ends the controller: it would keep the placement
    group of a worker group that was half made, and wait for the same resources with the next."""

    def __init__(self, hub: Any, slot: int) -> None:
        super().__init__(FailureConfig())
        self._hub, self._slot = hub, slot

    def make_decision(self, training_failed_error: Any) -> FailureDecision:
        if isinstance(training_failed_error, WorkerGroupError):
            again = ray.get(self._hub.group_gone.remote(self._slot, reason_of(training_failed_error)))
            return FailureDecision.RETRY if again else FailureDecision.RAISE
        return FailureDecision.RAISE


def run_controller(
    train: Callable[[dict[str, Any]], None],
    config: dict[str, Any],
    shape: Any,
    name: str,
    storage: str,
    started: Callable[[Any], Any],
) -> None:
    """A slot's worker groups, until its ranks leave; raises what ended it otherwise. Nothing of it is left then.

    train, config: what each worker runs; config has `hub` and `slot`. started: is given a function that starts the
    controller's actor and returns it, so that a slot that starts or waits for resources can be ended.
    """
    from ray.train import LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from raycnn.slots.group import Meeting

    class SlotTrainer(TorchTrainer):
        """Its controller is known and its failures are the hub's. Without two processes a slot: one for Ray Data, which
        is not used here, and one that removes a dead controller's placement group, but only if its workers had come."""

        def _create_default_callbacks(self) -> list[Any]:
            made = super()._create_default_callbacks()
            without = ("DatasetsCallback", "PlacementGroupCleanerCallback")
            return [callback for callback in made if type(callback).__name__ not in without]

        def _initialize_and_run_controller(self, **made: Any) -> Any:
            made["failure_policy"] = HubDecides(config["hub"], config["slot"])
            controller = started(lambda: _controller_actor().remote(**made))
            try:
                ray.get(controller.run.remote())
                return ray.get(controller.get_result.remote())
            finally:
                # A controller that could not make its group keeps what it had of it: workers, and resources.
                ray.kill(controller)
                with contextlib.suppress(RayError):
                    _remove_placement_groups(controller)

    meeting: Any = Meeting()
    SlotTrainer(
        train,
        torch_config=meeting,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=shape.workers, use_gpu=shape.gpus > 0, resources_per_worker=shape.resources()
        ),
        run_config=RunConfig(name=name, storage_path=storage, logging_config=LoggingConfig(log_level="ERROR")),
    ).fit()


def _controller_actor() -> Any:
    """Ray Train's controller, on this node, as its trainers start it."""
    from ray.train.v2._internal.constants import get_env_vars_to_propagate
    from ray.train.v2._internal.execution.controller import TrainController

    return ray.remote(TrainController).options(
        num_cpus=0,
        label_selector={ray._raylet.RAY_NODE_ID_KEY: ray.get_runtime_context().get_node_id()},  # pyright: ignore private
        runtime_env={"env_vars": get_env_vars_to_propagate()},
    )


def _remove_placement_groups(creator: Any) -> None:
    """Those that a dead actor had made. Ray keeps them until its job has ended: resources that nobody can have."""
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # pyright: ignore made by protobuf
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    accessor = ray._private.state.state._connect_and_get_accessor()  # pyright: ignore private: the table of ray.util has no creators
    for entry in accessor.get_placement_group_table():
        made = PlacementGroupTableData.FromString(entry)
        if made.creator_actor_id == creator._actor_id.binary():
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(made.placement_group_id)))
