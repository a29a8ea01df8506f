"""What a search may vary: a range of real or whole numbers, or one of several constants."""

from fractions import Fraction
from typing import Generic, Literal, Self, TypeVar

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from raycnn.spec.trial import Spec

T = TypeVar("T")


class FloatRange(Spec):
    """A real number between two ends, both included."""

    type: Literal["float"]
    low: float
    high: float
    log: bool = Field(default=False, description="sample the logarithm uniformly")
    step: float | None = Field(default=None, gt=0, description="sample low, low + step, …")

    @model_validator(mode="after")
    def _ends(self) -> Self:
        _check_ends(self)
        return self


class IntRange(Spec):
    """A whole number between two ends, both included."""

    type: Literal["int"]
    low: int
    high: int
    log: bool = Field(default=False, description="sample the logarithm uniformly")
    step: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _ends(self) -> Self:
        _check_ends(self)
        return self


class Options(Spec, Generic[T]):
    """One of several constants, without order."""

    choice: list[T] = Field(min_length=1)

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        for index, option in enumerate(self.choice):
            if option in self.choice[:index]:
                raise PydanticCustomError(
                    "options", "{option} is there already. Remove it.", {"option": option, "keys": ("choice", index)}
                )
        return self


def _check_ends(ends: FloatRange | IntRange) -> None:
    values = {"low": ends.low, "high": ends.high}
    if ends.low >= ends.high:
        mend = "Write a constant" if ends.low == ends.high else "Swap them"
        raise PydanticCustomError(
            "ends", "low must be below high, got low={low}, high={high}. {mend}.", values | {"mend": mend}
        )
    if ends.log and ends.low <= 0:
        raise PydanticCustomError(
            "ends", "a log scale cannot reach 0, got low={low}. Raise low above 0, or write log: false.", values
        )
    if ends.log and ends.step not in (None, 1):
        raise PydanticCustomError("ends", "step and log: true exclude each other. Remove one.", {})
    if ends.step is not None:
        # Exact, as written: 0.3 is three steps of 0.1.
        low, high, step = (Fraction(str(value)) for value in (ends.low, ends.high, ends.step))
        if (high - low) % step:
            nearest = type(ends.high)(high - (high - low) % step)
            mend = f"Write high: {nearest}" if step < high - low else "Write a smaller step"
            raise PydanticCustomError(
                "ends",
                "high must be low and a number of steps, got low={low}, high={high}, step={step}. {mend}.",
                values | {"step": ends.step, "mend": mend},
            )
