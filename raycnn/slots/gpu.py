"""A GPU among the workers that share it: each has its fraction of the memory, and one that runs alone may have all that
is free. Which errors are of missing memory, and which of a GPU that is lost."""

import ray


def gpu_share() -> float:
    """The fraction of a GPU that Ray gave to this worker; 1 where it has whole ones, or none."""
    share = ray.get_runtime_context().get_assigned_resources().get("GPU", 1.0)
    return share if 0 < share < 1 else 1.0


def cap_memory(alone: bool) -> None:
    """Keep this process to its fraction of the GPU, so that it cannot take what others need; `alone`: to none."""
    import torch

    if torch.cuda.is_available() and (share := gpu_share()) < 1:
        torch.cuda.set_per_process_memory_fraction(1.0 if alone else share)


def place_of_worker() -> str:
    """What this worker shares memory with others of: its GPUs, else its node."""
    context = ray.get_runtime_context()
    return " ".join([context.get_node_id(), *sorted(map(str, context.get_accelerator_ids().get("GPU", [])))])


def out_of_memory(error: BaseException) -> bool:
    """Whether memory was missing, of a GPU or of the processor."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # What libraries beside torch's own allocator say: cuBLAS, cuDNN, CUDA itself, and the processor's allocator.
    words = ("ALLOC_FAILED", "CUDA error: out of memory", "can't allocate memory", "cudaErrorMemoryAllocation")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def gpu_lost(error: BaseException) -> bool:
    """Whether the GPU itself is at fault. An illegal access or a failed assertion is not among these: those are a
    program's."""
    words = (
        "uncorrectable ECC error",
        "fallen off the bus",
        "GPU is lost",
        "no CUDA-capable device",
        "busy or unavailable",
        "hardware stack error",
        "system not yet initialized",
    )
    return isinstance(error, RuntimeError) and any(word.lower() in str(error).lower() for word in words)
