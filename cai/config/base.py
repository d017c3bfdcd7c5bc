"""The base class of all config sections, and the types of their values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
BelowHalf = Annotated[float, Field(ge=0, lt=0.5)]
Name = Annotated[str, Field(min_length=1)]
"""A setting that is null if there is none, never empty."""
Names = Annotated[
    Annotated[Name, Tag("<name>")] | Annotated[tuple[Name, ...], Tag("<list>")],
    Discriminator(lambda value: "<list>" if isinstance(value, list | tuple) else "<name>"),
]
"""One name, or a list of them."""
ChatFormat = Literal["chat", "transcript", "plain"]
Tracker = Literal[
    "aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "tensorboard", "trackio", "wandb"
]


class Section(BaseModel):
    """A frozen group of settings. Unknown keys are refused.

    The docstring under each field is its description in ``cai settings``, the JSON schema and the
    documentation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
