"""Every setting of the job, in one class; read when a flow starts, never on import."""

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from flows.environment import (
    OF_KUBERNETES,
    PREFIX,
    SettingsError,
    limit_threads,
    prepare_environment,
    project_folder,
)
from flows.kaggle.address import canonical_server
from flows.policy.cost import Prices
from flows.spec_text import SpecText
from flows.store.open import ADDRESSES, check_address
from mnist_core.errors import DataError
from mnist_core.models import base as models
from mnist_core.spec import DIGIT_RECOGNIZER, SPECS, CompetitionSpec

__all__ = ["PREFIX", "Settings", "SettingsError", "choices", "in_our_words", "read_settings"]
DAY_S = 86400.0
SERVER, DATASET = "competition", "dataset:"
"""Sources of a competition's files: its server, or a data set on Kaggle; any other source is a path."""
DEVICES = ("auto", "cpu", "cuda")
TOKEN = re.compile(r"[A-Za-z0-9._~+/=:@-]+")
"""What a credential is made of that is sent in a header: a bearer token, a username, or a key."""
IN_HEADERS = ("AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "PREFECT_API_KEY")
"""Variables of other programs that put them into a header; of a wrong one their error quotes the value."""


def choices(name: str) -> tuple[str, ...]:
    """Return the values that a setting may have; empty if they cannot be listed."""
    if name == "model":
        return tuple(kind.name for kind in models.kinds().values() if kind.nightly)
    return {
        "competition": tuple(SPECS),
        "preset": models.COMMON_PRESETS,
        "device": DEVICES,
    }.get(name, ())


class Settings(BaseSettings):
    """The settings of the job, from `MNIST_*` variables and `.env`; the variable wins.

    The description of each field is what the command line, the forms of the deployments and
    docs/configuration.md show. `default` states a default that is not a constant.

    Example:
        >>> os.environ["MNIST_PRESET"] = "best"
        >>> settings = read_settings(model="ensemble")
        >>> settings.model, settings.preset, settings.store
        ('ensemble', 'best', '.mnist/store')
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, allow_inf_nan=False)

    kaggle: str = Field(
        "practice",
        description="Server to compete on: `practice` (a local one), `live` (kaggle.com) or a URL",
    )
    kaggle_token: SecretStr | None = Field(
        None,
        description="Token for a server that `MNIST_KAGGLE` names by a URL; Kaggle has its own variables",
        json_schema_extra={"default": "none"},
    )
    spec: Annotated[SpecText | None, NoDecode] = Field(
        None,
        description="File that describes a competition that is not built in, or the file's text",
        json_schema_extra={"default": "none"},
    )
    competition: str = Field(
        default_factory=lambda known: _spec_of(known).name,
        description="Competition to enter",
        json_schema_extra={"default": f"`{DIGIT_RECOGNIZER.name}`, or the one of `MNIST_SPEC`"},
    )
    practice_data: Path | None = Field(
        None,
        description="Labelled rows, CSV or npz, that the practice server deals as the competition of "
        "`MNIST_SPEC`",
        json_schema_extra={"default": "the source that it names"},
    )
    home: Path = Field(
        Path(".mnist"),
        description="Folder for downloads, reports, the practice server and Prefect's local data",
    )
    store: str = Field(
        default_factory=lambda known: str(known["home"] / "store"),
        description=f"Where versions, predictions and champions are kept: {ADDRESSES}",
        json_schema_extra={"default": "`store` in the home"},
    )
    model: str = Field("convnet", description="Model to train")
    preset: str = Field(
        "fast", description="Training effort; for an ensemble also the number of members that a run adds"
    )
    members: int = Field(
        15,
        ge=5,
        le=100,
        description="Most members of an ensemble; beyond that a new member replaces one of its own fold",
    )
    epochs: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None,
        description="Passes over the training rows",
        json_schema_extra={"default": "by model and preset"},
    )
    explore: Annotated[float, Field(ge=0, le=10)] | None = Field(
        None,
        description="Part of the training seconds of a night that is used to try other recipes; 0: none",
        json_schema_extra={"default": "0.2 in scheduled runs, else 0"},
    )
    device: str = Field("auto", description="Device to train on")
    scheduler: str | None = Field(
        None,
        pattern=r"^(tcp|tls)://[^/\s]+:\d+$",
        description="Scheduler of a Dask cluster for `predict --engine dask`, as `tcp://HOST:8786`",
        json_schema_extra={"default": "none"},
    )
    scheduler_certificates: Path | None = Field(
        None,
        description="Folder with `ca.pem`, `cert.pem` and `key.pem` for a scheduler of `tls://`",
        json_schema_extra={"default": "none"},
    )
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None,
        description="Most CPU threads to use; affinity, the container's CPU quota and OMP_NUM_THREADS limit "
        "them too",
        json_schema_extra={"default": "as many as these allow"},
    )
    floor: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="Lowest held-out accuracy that may be submitted",
        json_schema_extra={"default": "by model; of a competition of `MNIST_SPEC` half way from chance"},
    )
    margin_errors: float = Field(
        2.0, ge=0, le=10, description="Standard errors by which a challenger may be worse than the champion"
    )
    margin_rows: int = Field(
        8,
        ge=0,
        le=1000,
        description="Held-out rows by which a challenger may be worse; the larger of the two margins applies",
    )
    share_min: float = Field(
        default_factory=lambda known: _spec_of(known).share_floor,
        ge=0,
        le=0.5,
        description="Lowest share of each class among the predictions of a submission",
        json_schema_extra={"default": "by competition: half of an equal share, less on few rows"},
    )
    agreement: float = Field(
        0.95, ge=0, le=1, description="Lowest share of test rows on which challenger and champion agree"
    )
    rejections: int = Field(
        7, ge=1, le=1000, description="Rejected nights in a row that lead to a notification"
    )
    split_seed: int = Field(
        0, ge=0, le=2**32 - 1, description="Split of the digits that the practice server uses"
    )
    daily_limit: int = Field(
        10, ge=0, le=1_000_000, description="Submissions per day that the practice server accepts"
    )
    timeout_s: float = Field(
        60.0,
        gt=0,
        le=120,
        description="Seconds without an answer after which a request to the competition's server fails",
    )
    score_wait_s: float = Field(
        600.0,
        ge=0,
        le=DAY_S,
        description="Seconds to wait for a score, within the run's cap; after that the next run reads it",
    )
    repost_days: int = Field(
        0,
        ge=0,
        le=3650,
        description="Days after which a champion that stays is submitted again, because Kaggle forgets "
        "submissions after two months; 0: never",
    )
    retry_waits_s: Annotated[list[Annotated[float, Field(ge=0, le=3600)]], NoDecode] = Field(
        [10.0, 60.0, 300.0],
        max_length=20,
        description="Seconds to wait before each retry of a download or a request, as a JSON list",
    )
    gpu_start_s: float = Field(
        1800.0,
        gt=0,
        le=DAY_S,
        description="Seconds within which a training on the GPU pool must start, its machine included",
    )
    gpu_fallback: str | None = Field(
        None,
        description="ECS capacity provider to try again with if a training gets no machine or loses it",
        json_schema_extra={"default": "none"},
    )
    train_cap_s: float = Field(
        7200.0,
        gt=0,
        le=7 * DAY_S,
        description="Longest `train` run in seconds, its download included; then it fails",
    )
    submit_cap_s: float = Field(
        3600.0,
        gt=0,
        le=7 * DAY_S,
        description="Longest `submit` run in seconds, alone or within a nightly run; then it fails",
    )
    night_cap_s: float = Field(
        21600.0,
        gt=0,
        le=7 * DAY_S,
        description="Longest nightly, `predict` or `sweep` run in seconds; then it fails",
    )
    keep_reports: int = Field(
        90, ge=1, le=10_000, description="Number of nights whose reports are kept in the home"
    )
    keep_versions: int = Field(
        30,
        ge=0,
        le=100_000,
        description="Number of latest versions that a night leaves in a folder store (0: all); champions of "
        "the last 30 promotions and their members stay too",
    )
    site: Path | None = Field(
        None,
        description="Folder into which each night writes a public site of static pages",
        json_schema_extra={"default": "none"},
    )
    site_pictures: bool = Field(
        False,
        description="Whether the public site may show rows of the competition's files as pictures",
    )
    price_cpu: float = Field(
        0.0,
        ge=0,
        le=10_000,
        description="US dollars per hour of the machine that runs the night; 0: its cost is not shown",
    )
    price_gpu: float = Field(
        0.0,
        ge=0,
        le=10_000,
        description="US dollars per hour of a machine of the GPU pool, added for training there",
    )
    notify: str | None = Field(
        None,
        pattern=r"^[a-z0-9-]+/[a-z0-9-]+$",
        description="Prefect block that sends notifications, as `slack-webhook/NAME`",
        json_schema_extra={"default": "none"},
    )
    silence_s: float = Field(
        93600.0,
        gt=0,
        le=90 * DAY_S,
        description="Seconds without a night that ended well, dry runs aside, that lead to a notification",
    )

    @field_validator("kaggle")
    @classmethod
    def _kaggle_is_known(cls, value: str) -> str:
        return canonical_server(value)

    @field_validator("kaggle_token", mode="before")
    @classmethod
    def _token_can_be_sent(cls, value: Any) -> Any:
        text = value.strip() if isinstance(value, str) else value
        if isinstance(text, str) and not TOKEN.fullmatch(text):
            raise ValueError("must be a token, without spaces, quotes, line breaks or letters outside ASCII")
        return text

    @field_validator("spec", mode="before")
    @classmethod
    def _spec_can_be_read(cls, value: Any) -> Any:
        try:
            return SpecText.read(value) if isinstance(value, str) else value
        except DataError as error:
            raise ValueError(str(error)) from None

    @field_validator("share_min")
    @classmethod
    def _shares_fit(cls, value: float, info: ValidationInfo) -> float:
        count = _spec_of(info.data).class_count
        if value * count > 1:
            raise ValueError(f"must be at most {1 / count:.4g}: there are {count} classes")
        return value

    @field_validator("competition", "model", "preset", "device")
    @classmethod
    def _is_a_choice(cls, value: str, info: ValidationInfo) -> str:
        allowed = choices(info.field_name or "")
        given = info.data.get("spec")
        if info.field_name == "competition" and given is not None:
            if value != given.spec.name:
                raise ValueError(f"is {value}, but MNIST_SPEC describes {given.spec.name}: leave it out")
            return value
        if value not in allowed:
            close = difflib.get_close_matches(value, allowed, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(f"must be one of {', '.join(allowed)}{hint}")
        return value

    @field_validator("store")
    @classmethod
    def _store_has_an_address(cls, value: str) -> str:
        check_address(value)
        return value

    @field_validator("retry_waits_s", mode="before")
    @classmethod
    def _waits_are_a_json_list(cls, value: Any) -> Any:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError):
            raise ValueError("must be a JSON list, such as [10, 60, 300]") from None

    @property
    def competition_spec(self) -> CompetitionSpec:
        """The competition's definition: its files, rows and classes."""
        return _spec_of(vars(self))

    @property
    def prices(self) -> Prices:
        """What an hour of each pool costs."""
        return Prices(self.price_cpu, self.price_gpu)

    @property
    def kaggle_is_set(self) -> bool:
        """Whether somebody chose the server; a scheduled run does not start on the default."""
        return "kaggle" in self.model_fields_set

    @property
    def labelled(self) -> Path | None:
        """The file of labelled rows that the practice server deals; None if a server has, or gets, them."""
        source = self.competition_spec.source
        if self.practice_data is not None or source == SERVER or source.startswith(DATASET):
            return self.practice_data
        return Path(source)

    @property
    def share_min_is_stated(self) -> bool:
        """Whether a setting or the specification says how low the share of a class may be."""
        return "share_min" in self.model_fields_set or self.competition_spec.share_min is not None

    @property
    def place(self) -> str:
        """Where the files of a run with these settings are, and which `.env` was read."""
        dotenv = project_folder() / ".env"
        origin = f"settings of {dotenv}" if dotenv.exists() else f"no .env in {dotenv.parent}"
        return f"home {self.home.absolute()}; {origin}"

    def floor_of(self, model: str) -> float | None:
        """Return the lowest held-out accuracy of `model` that may be submitted; None if none is stated.

        Raises:
            ModelError: the model does not exist.
        """
        stated = self.competition_spec.floor if self.floor is None else self.floor
        if stated is not None or self.spec is not None:
            return stated
        return models.find(model).floor or 0.0

    @classmethod
    def defaults_for(cls, names: Sequence[str]) -> dict[str, Any]:
        """Return the defaults of some settings, as if all the others had theirs."""
        defaults = cls.model_construct()
        return {name: getattr(defaults, name) for name in names}


def _spec_of(known: Mapping[str, Any]) -> CompetitionSpec:
    """Return the competition of settings that are known so far; a wrong one is reported elsewhere."""
    given = known.get("spec")
    if given is not None:
        spec: CompetitionSpec = given.spec
        return spec
    return SPECS.get(known.get("competition", ""), DIGIT_RECOGNIZER)


def read_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment and `.env`, with `overrides` (None: not given) on top.

    An empty value, wherever it stands, counts as not given.

    Raises:
        SettingsError: a `MNIST_` variable does not exist, or a value is out of range; the message names the
            variable (of an override its option too), what is wrong with the value and, for a misspelling,
            the nearest setting. Or the environment is wrong, see `prepare_environment`.
    """
    prepare_environment()
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    problems = [
        f"{name} is not a setting{_nearest(name, known)}"
        for name in sorted(os.environ)
        if name.startswith(PREFIX) and name.upper() not in known and not OF_KUBERNETES.fullmatch(name)
    ]
    problems += [
        f"{name} has a space, a line break or another character that it cannot have"
        for name in IN_HEADERS
        if not TOKEN.fullmatch(os.environ.get(name) or "unset")
    ]
    given = {name: value for name, value in overrides.items() if value not in (None, "")}
    faults: dict[str, str] = {}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        faults = _faults(error)
        problems += [
            f"{f'--{_option(name)}, ' if name in given else ''}{PREFIX}{name.upper()}: {fault}"
            for name, fault in faults.items()
        ]
    if problems:
        remedy = "" if faults else "docs/configuration.md lists all settings"
        raise SettingsError("; ".join(problems), remedy, names=list(faults))
    limit_threads(settings.threads)
    return settings


def _faults(error: ValidationError) -> dict[str, str]:
    """Return what is wrong with each setting, without the values: one may be a credential."""
    return {
        str(entry["loc"][0]): in_our_words(entry["msg"])
        for entry in error.errors(include_input=False)
        if entry["type"] != "default_factory_not_called"  # follows from another fault
    }


def in_our_words(message: str) -> str:
    """Return pydantic's message about a value in the words of our own, as `must be …`."""
    return message.removeprefix("Value error, ").replace("Input should be", "must be")


def _option(name: str) -> str:
    return name.replace("_", "-")


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
