"""Why something failed, in one line that a user can act on."""

from ray.exceptions import RayActorError, RayError, RayTaskError

_LONGEST = 500  # characters


def reason_of(error: BaseException) -> str:
    """Of the error that came first: what Ray and Ray Train wrap around it says nothing of use."""
    inner = _first(error)
    lines = [line.strip() for line in str(inner).split("Exception raised from")[0].splitlines() if line.strip()]
    if not lines:
        return type(inner).__name__
    if isinstance(inner, RayError) or any(line.startswith("Traceback (most recent call last)") for line in lines):
        if any("Worker unexpectedly exits" in line for line in lines):  # Ray goes on with a page of what may be
            return "a process died suddenly: it was killed, by hand or for want of memory, or it crashed"
        # The end of a traceback, or of what Ray tells of a process that has died; but where its memory monitor killed
        # one, a table of processes and advice follow.
        return next((line for line in lines if "low on memory" in line), lines[-1])[:_LONGEST]
    return f"{type(inner).__name__}: {' '.join(' '.join(lines).split())[:_LONGEST]}"


def _first(error: BaseException) -> BaseException:
    seen: list[BaseException] = []
    while error not in seen:
        seen.append(error)
        error = _inside(error) or error
    return error


def _inside(error: BaseException) -> BaseException | None:
    """What this error is about: Ray Train's name the attribute each in their own way (Ray 2.60)."""
    if failures := getattr(error, "worker_failures", None):
        # Of several ranks, those that raised: the others may have died of it.
        return min(failures.values(), key=lambda failure: isinstance(_first(failure), RayActorError))
    if isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        return error.cause
    for name in ("controller_failure", "health_check_failure", "_base_exc"):
        if isinstance(found := getattr(error, name, None), BaseException):
            return found
    return error.__cause__
