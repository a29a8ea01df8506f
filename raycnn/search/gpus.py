"""The GPUs of the cluster by name, for the manifest: which they are, how large, under which driver."""

from collections import Counter
from typing import Any

from raycnn.search.nodes import on_every_node
from raycnn.search.resources import Resources


def gpus_in_words(resources: Resources) -> list[str]:
    """Such as `8 x NVIDIA H200 (139.8 GiB, driver 580.65)`, a line for each kind; where no driver tells, their number.

    Of all nodes of the cluster that is connected.
    """
    if not resources.gpus:
        return []
    answers = on_every_node(cards_here)
    counts = Counter(card for cards in answers.values() if isinstance(cards, list) for card in cards)
    return [f"{count} x {card}" for card, count in counts.items()] or [f"{resources.gpus:g} GPUs"]


def cards_here() -> list[str]:
    """This node's NVIDIA cards that Ray may give away (CUDA_VISIBLE_DEVICES), in words; none where NVML is silent."""
    from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager

    visible = NvidiaGPUAcceleratorManager.get_current_process_visible_accelerator_ids()
    try:
        import ray._private.thirdparty.pynvml as nvml  # pyright: ignore[reportMissingImports] Ray counts cards with it

        nvml.nvmlInit()
    except Exception:  # no such library, or no driver
        return []
    try:
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        # An empty list is Ray's, for a task without a GPU: then all are told.
        names = visible or [str(index) for index in range(nvml.nvmlDeviceGetCount())]
        return [_card(nvml, _handle(nvml, name.strip()), driver) for name in names]
    except Exception:  # NVML's own errors: a card that is lost, a name that it does not know
        return []
    finally:
        nvml.nvmlShutdown()


def _handle(nvml: Any, name: str) -> Any:
    """name: as in CUDA_VISIBLE_DEVICES, an index or the beginning of a UUID (GPU-…, MIG-…)."""
    if name.isdecimal():
        return nvml.nvmlDeviceGetHandleByIndex(int(name))
    return nvml.nvmlDeviceGetHandleByUUID(name.encode())


def _card(nvml: Any, handle: Any, driver: str) -> str:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle).total
    return f"{_text(nvml.nvmlDeviceGetName(handle))} ({memory / 2**30:.1f} GiB, driver {driver})"


def _text(words: bytes | str) -> str:
    return words.decode() if isinstance(words, bytes) else words
