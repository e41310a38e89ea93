"""Every setting of the job, in one class; read when a flow starts, never on import."""

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import Field, ValidationError, WithJsonSchema, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from mnist_core.errors import MnistError
from mnist_core.spec import DIGIT_RECOGNIZER

PREFIX = "MNIST_"
FLOORS = {"convnet": 0.99, "ensemble": 0.995, "resnet18": 0.99, "scratch": 0.95}
"""Lowest held-out accuracy that is submitted, by model (MNIST_FLOOR overrides it)."""


class SettingsError(MnistError):
    """A setting that is unknown, misspelled or out of range; nothing was started."""


class Settings(BaseSettings):
    """The job's settings, from `MNIST_*` variables and `.env`; the variable wins."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    kaggle: str = Field("practice", description="`practice`, `live` (kaggle.com), or a server's URL")
    competition: str = Field(DIGIT_RECOGNIZER.name, pattern=r"^[a-z0-9][a-z0-9-]*$", description="its name")
    home: Path = Field(Path(".mnist"), description="downloads, caches, reports, the local Prefect home")
    store: str | None = Field(
        None,
        description="where versions live: a folder, or `s3://bucket/prefix`; default `store` in the home",
    )
    model: Literal["convnet", "ensemble", "resnet18", "scratch"] = Field(
        "convnet", description="what is trained"
    )
    preset: Literal["fast", "balanced", "best"] = Field(
        "fast", description="how long it is trained, and how many members a night adds to an ensemble"
    )
    members: int = Field(
        15, ge=5, le=100, description="most members of an ensemble; then a new one replaces one of its fold"
    )
    epochs: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None, description="passes over rows; default by model and preset"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where it is trained")
    floor: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="lowest held-out accuracy that is submitted; default by model"
    )
    margin_errors: float = Field(
        2.0, ge=0, description="a challenger may be worse than the champion by this many standard errors"
    )
    margin_rows: int = Field(8, ge=0, description="and by this many held-out rows, before it is rejected")
    share_min: float = Field(
        0.05, ge=0, le=0.1, description="lowest share of each digit among the predictions that are submitted"
    )
    agreement: float = Field(
        0.95, ge=0, le=1, description="lowest share of test rows on which a challenger and the champion agree"
    )
    split_seed: int = Field(0, ge=0, description="which split the practice competition deals")
    daily_limit: int = Field(10, ge=0, description="submissions a day that the practice competition takes")
    timeout_s: float = Field(
        60.0, gt=0, le=120, description="seconds that the competition's server may be silent"
    )
    score_wait_s: float = Field(600.0, ge=0, description="seconds to wait for a score")
    retry_waits_s: list[float] = Field(
        [10.0, 60.0, 300.0], description="seconds before each new try of a download or a list (JSON)"
    )
    gpu_start_s: float = Field(
        1800.0, gt=0, description="seconds until a training on another machine must have begun"
    )
    gpu_fallback: str | None = Field(
        None, description="ECS capacity provider of a training whose first machine did not come, or was lost"
    )
    train_cap_s: float = Field(7200.0, gt=0, description="seconds that a training may take; then it fails")
    night_cap_s: float = Field(21600.0, gt=0, description="seconds that a night may take; then it fails")
    keep_reports: int = Field(90, ge=1, description="nights whose reports are kept in the home")
    notify: str | None = Field(
        None,
        pattern=r"^[a-z0-9-]+/[a-z0-9-]+$",
        description="the Prefect block that hears of failures and of new champions, as `slack-webhook/NAME`",
    )
    silence_s: float = Field(
        93600.0, gt=0, description="seconds without a night that ended well, after which that block hears"
    )

    @field_validator("kaggle")
    @classmethod
    def _kaggle_is_known(cls, value: str) -> str:
        if value in ("practice", "live"):
            return value
        url = urlsplit(value)
        if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query:
            raise ValueError(
                "must be `practice`, `live`, or the http(s) URL of a server, without credentials"
            )
        return value.rstrip("/")

    @field_validator("store")
    @classmethod
    def _store_is_a_folder_or_a_bucket(cls, value: str | None) -> str | None:
        if value is None or re.fullmatch(r"s3://[a-z0-9.-]{3,63}(/[\w./=-]*)?", value):
            return value
        if value.startswith("s3:") or "://" in value:
            raise ValueError("must be a folder, or `s3://bucket/prefix`")
        if Path(value).is_file():
            raise ValueError("is a file; it must be a folder, or `s3://bucket/prefix`")
        return value

    @model_validator(mode="after")
    def _store_has_a_place(self) -> Self:
        if self.store is None:
            object.__setattr__(self, "store", str(self.home / "store"))
        return self

    @property
    def kaggle_is_set(self) -> bool:
        """Whether somebody chose the server; a scheduled night does not run on the default."""
        return "kaggle" in self.model_fields_set

    def floor_of(self, model: str) -> float:
        """The lowest held-out accuracy of `model` that is submitted."""
        return FLOORS[model] if self.floor is None else self.floor


def _choices(name: str) -> list[str]:
    return list(get_args(Settings.model_fields[name].annotation))


# What the form of a deployment shows of a flow's parameters, and what the server checks before it starts a
# machine. The flow checks again what it is given, with the settings, so that its message names the setting.
Night = Annotated[
    str | None,
    WithJsonSchema({"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}),
    Field(json_schema_extra={"title": "Night (UTC date)"}),
]
Model = Annotated[
    str | None,
    WithJsonSchema({"type": "string", "enum": _choices("model")}),
    Field(json_schema_extra={"title": "Model"}),
]
Preset = Annotated[
    str | None,
    WithJsonSchema({"type": "string", "enum": _choices("preset")}),
    Field(json_schema_extra={"title": "Preset"}),
]
Device = Annotated[
    str | None,
    WithJsonSchema({"type": "string", "enum": _choices("device")}),
    Field(json_schema_extra={"title": "Device"}),
]
Seed = Annotated[
    int | None,
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": 2**31 - 1}),
    Field(json_schema_extra={"title": "Seed"}),
]
Attempt = Annotated[
    int | None,
    WithJsonSchema({"type": "integer", "minimum": 1}),
    Field(json_schema_extra={"title": "Attempt of the night"}),
]
Member = Annotated[
    int | None,
    WithJsonSchema({"type": "integer", "minimum": 1}),
    Field(json_schema_extra={"title": "Member of the night"}),
]
Version = Annotated[
    str | None,
    WithJsonSchema({"type": "string", "minLength": 1}),
    Field(json_schema_extra={"title": "Version"}),
]
Fresh = Annotated[bool, Field(json_schema_extra={"title": "Fresh attempt"})]
DryRun = Annotated[bool, Field(json_schema_extra={"title": "Dry run"})]
Force = Annotated[bool, Field(json_schema_extra={"title": "Force"})]


def read_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment and `.env`, with `overrides` (None: not given) on top.

    `.env` in the working directory may also hold other programs' variables (`KAGGLE_*`, `AWS_*`);
    each enters the environment unless it is set there already.

    Raises:
        SettingsError: a `MNIST_` variable that does not exist, or a value out of its range; the message
            names the variable (of an override its option too), the value's fault and, for a misspelling,
            the nearest setting.
    """
    for name, value in dotenv_values(".env").items():
        if value is not None:
            os.environ.setdefault(name, value)
    for name in os.environ:
        if name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() not in Settings.model_fields:
            raise SettingsError(f"{name} is no setting{_nearest(name)}; the README lists them all")
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        # The value itself stays out of the message: it could be a credential in the wrong variable.
        faults = ((str(e["loc"][0]), e["msg"].removeprefix("Value error, ")) for e in error.errors())
        raise SettingsError(
            "; ".join(
                f"{f'--{name}, ' if name in given else ''}{PREFIX}{name.upper()}: {fault}"
                for name, fault in faults
            )
        ) from None
    except SourceError as error:  # of a list that is no JSON
        name = str(error).partition('field "')[2].partition('"')[0].upper()
        raise SettingsError(f"{PREFIX}{name}: must be a list in JSON, as [10, 60, 300]") from None


def _nearest(name: str) -> str:
    known = [PREFIX + field.upper() for field in Settings.model_fields]
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
