"""The parameters of a run: one definition for the command line, the flows and the forms of their deployments.

A new parameter is one field here. If it overrides a setting (`setting("device")`), its words and choices are
those of the setting, and `RunParameters.read_settings` applies it.
"""

import difflib
import functools
import inspect
import re
from collections.abc import Callable
from datetime import date, datetime
from types import UnionType
from typing import Annotated, Any, Concatenate, ParamSpec, Self, TypeVar, get_args

import typer
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic.fields import FieldInfo

from flows.records import VERSION, VersionEntry
from flows.registry import Registry
from flows.settings import PREFIX, Settings, SettingsError, choices, in_our_words, read_settings
from mnist_core.models.base import find

SEED_MAX = 2**31 - 1
RECIPE = "^(preset|r-[0-9a-f]{8})$"
SHARD_ROWS = 200_000
"""Rows that a shard has unless the file's row groups say otherwise: 100,000 to 250,000 in a large file."""
FIRST_NIGHT = date(2000, 1, 1)
ENGINES = ("local", "dask", "pool")
BAD_ROWS = ("fail", "skip")


def parameter(
    title: str,
    words: str,
    *,
    unset: str = "",
    hidden: bool = False,
    form: dict[str, Any] | None = None,
    **bounds: Any,
) -> Any:
    """Return the field of a parameter.

    Args:
        title: of its field in a form.
        words: its description, which names the value.
        unset: what is used if it is not given.
        hidden: whether it is for child runs only, and left out of the command line.
        form: what its JSON schema in a form has besides the bounds.
        bounds: of its value, as for pydantic's `Field`.
    """
    extra = {"hidden": hidden, "unset": unset, **(form or {})}
    return Field(None, title=title, description=words, json_schema_extra=extra, **bounds)


def flag(title: str, words: str) -> Any:
    """Return the field of a parameter that is off unless given."""
    return Field(False, title=title, description=words)


def setting(name: str) -> Any:
    """Return the field of a parameter that overrides the setting of the same name for one run."""
    words = Settings.model_fields[name].description or name
    allowed = choices(name)
    if allowed:
        words += f": {', '.join(allowed[:-1])} or {allowed[-1]}"
    form = {"enum": list(allowed)} if allowed else {}
    return parameter(name.capitalize(), words, unset=f"{PREFIX}{name.upper()}", form=form)


def option(title: str, words: str, default: str, allowed: tuple[str, ...]) -> Any:
    """Return the field of a parameter that is one of some words."""
    return Field(default, title=title, description=words, json_schema_extra={"enum": list(allowed)})


def check_version_name(value: str | None) -> str | None:
    """Return the name of a version, or None; raise ValueError if it is another string."""
    if value is not None and not re.fullmatch(VERSION, value):
        raise ValueError("must be a version's name, such as 2026-11-23-convnet-0123abcd")
    return value


class Parameters(BaseModel):
    """Base of the parameters of a flow."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> dict[str, Any]:
        """Return the values that differ from the defaults, such as a deployment's run takes them."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def read_settings(self) -> Settings:
        """Return the settings of a run, with the parameters that override one.

        Raises:
            SettingsError: as `flows.settings.read_settings`.
        """
        return read_settings(**{name: getattr(self, name) for name in overridden(type(self))})

    @classmethod
    def check(cls, **given: Any) -> Self:
        """Return the parameters with these values.

        Raises:
            SettingsError: a value is out of range; the message names the option.
        """
        try:
            return cls(**given)
        except ValidationError as error:
            first = error.errors()[0]
            name, fault = str(first["loc"][0]), in_our_words(first["msg"])
            raise SettingsError(f"--{name.replace('_', '-')} {given.get(name)}: {fault}") from None


class RunParameters(Parameters):
    """What a run trains, and for which night; what is not given comes from the settings."""

    night: str | None = parameter(
        "Night (UTC date)",
        "UTC date of the run, such as 2026-11-23",
        unset="the scheduled date, or today",
        form={"format": "date", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
    )
    model: str | None = setting("model")
    preset: str | None = setting("preset")
    seed: int | None = parameter(
        "Seed", f"Random seed, 0 to {SEED_MAX}", unset="derived from night and attempt", ge=0, le=SEED_MAX
    )
    device: str | None = setting("device")
    recipe: str | None = parameter(
        "Recipe",
        "Recipe to train, by its name in `python -m flows recipes`, or `preset`",
        unset="the one that the nights train",
        form={"pattern": RECIPE},
    )
    fresh: bool = flag("Fresh attempt", "Start the night's next attempt instead of resuming its last one")

    @field_validator("recipe")
    @classmethod
    def _recipe_is_a_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(RECIPE, value):
            raise ValueError("must be `preset`, or a name such as r-0123abcd")
        return value

    @field_validator("night")
    @classmethod
    def _night_is_a_date(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            night = datetime.strptime(value, "%Y-%m-%d").date()
        except ValueError:
            raise ValueError("must be a date, such as 2026-11-23") from None
        if night < FIRST_NIGHT:  # Python has no dates before year 1, and some weeks before a night are read
            raise ValueError(f"must be {FIRST_NIGHT} or later")
        return night.isoformat()


class NightlyParameters(RunParameters):
    """The parameters of the flow `nightly`."""

    dry_run: bool = flag("Dry run", "Stop after the gate: promote and submit nothing")
    force: bool = flag(
        "Force",
        "Promote even if the gate rejects, and post the predictions to Kaggle (to the practice server if "
        "MNIST_KAGGLE is practice); only their format is checked",
    )


class TrainParameters(RunParameters):
    """The parameters of the flow `train`."""

    attempt: int | None = parameter(
        "Attempt of the night", "Attempt that the caller has started", hidden=True, ge=1
    )
    member: int | None = parameter(
        "Member of the night", "Train only this member of the night's ensemble, from 1", unset="all", ge=1
    )
    explore: float | None = parameter(
        "Explore", "Part of the training seconds that the caller uses for trials", hidden=True, ge=0, le=10
    )


class SweepParameters(RunParameters):
    """The parameters of the flow `sweep`; what its grid does not change is the same for all trainings."""

    set: list[str] = Field(
        [],
        title="Grid",
        description="Values of a parameter (model, preset, seed, device) or of a field of the recipe, as "
        "preset=fast,balanced; repeat it for a grid",
    )


class SubmitParameters(Parameters):
    """The parameters of the flow `submit`."""

    version: str | None = parameter(
        "Version", "Version to submit", unset="the champion", form={"pattern": f"^{VERSION}$"}
    )
    again: bool = flag(
        "Again", "Submit predictions that were submitted before: once more, at most once on each UTC date"
    )

    @field_validator("version")
    @classmethod
    def _version_is_a_name(cls, value: str | None) -> str | None:
        return check_version_name(value)


class PredictParameters(Parameters):
    """The parameters of the flow `predict`."""

    input: str | None = parameter(
        "Input",
        "Files to read: a folder or s3:// prefix of Parquet, CSV (also in gzip) or npy files, one such "
        "file, or a list of them (.txt, .json)",
    )
    output: str | None = parameter(
        "Output", "Folder or s3:// prefix for the predictions, of this job alone; the same one resumes it"
    )
    version: str | None = parameter(
        "Version", "Version that predicts", unset="the champion", form={"pattern": f"^{VERSION}$"}
    )
    engine: str = option(
        "Engine",
        "What does the shards: `local` (processes of this machine), `dask` (the workers of a cluster) or "
        "`pool` (child runs of the deployment predict/cpu)",
        "local",
        ENGINES,
    )
    scheduler: str | None = setting("scheduler")
    workers: int | None = parameter(
        "Workers",
        "Processes of the engine `local`, one thread each, or child runs of `pool`",
        unset="as many as there are cores, or 4 child runs",
        ge=1,
        le=1000,
    )
    bad_rows: str = option(
        "Broken rows",
        "What a broken row does: `fail` its shard, or `skip` it into bad-rows/",
        "fail",
        BAD_ROWS,
    )
    probabilities: bool = flag("All probabilities", "Add a column with the probabilities of all classes")
    int8: bool = flag("Integers", "Compute in 8-bit integers: twice as fast, with almost the same labels")
    shard_rows: int = Field(
        SHARD_ROWS,
        title="Rows of a shard",
        description="About how many rows a shard has",
        ge=1,
        le=10_000_000,
    )

    shards: str | None = parameter(
        "Shards",
        "Shards of the job that is there, as 0-49,60, that the caller gives to this run",
        hidden=True,
    )

    @field_validator("version")
    @classmethod
    def _version_is_a_name(cls, value: str | None) -> str | None:
        return check_version_name(value)

    @field_validator("engine", "bad_rows")
    @classmethod
    def _is_a_choice(cls, value: str, info: ValidationInfo) -> str:
        allowed = {"engine": ENGINES, "bad_rows": BAD_ROWS}[info.field_name or ""]
        if value not in allowed:
            raise ValueError(f"must be {', '.join(allowed[:-1])} or {allowed[-1]}")
        return value

    def need(self, name: str) -> str:
        """Return a parameter that must be given.

        Raises:
            SettingsError: it is not.
        """
        value = getattr(self, name)
        if not value:
            raise SettingsError(f"--{name} is missing", "`python -m flows predict --help` lists the options")
        return str(value)


def overridden(kind: type[Parameters]) -> list[str]:
    """Return the parameters that override a setting."""
    return [name for name in kind.model_fields if name in Settings.model_fields]


P = TypeVar("P", bound=Parameters)
R = TypeVar("R")
More = ParamSpec("More")


def takes(
    kind: type[P], *, checked: bool = True
) -> Callable[[Callable[Concatenate[P, More], R]], Callable[..., R]]:
    """Give a function the fields of `kind` as parameters, in place of its first one.

    Typer and Prefect read a function's signature, so a command and a flow that take `kind` show the same
    parameters with the same words. Further parameters of the function follow.

    Args:
        kind: the parameters.
        checked: whether a wrong value is refused before the function is called, as a flow does. A command
            calls `check` itself, where it catches errors, and does not take what is for child runs only.

    Example:
        >>> @flow
        ... @takes(SubmitParameters)
        ... def submit(parameters: SubmitParameters) -> None: ...
        >>> submit(version="2026-11-23-convnet-0123abcd")
    """

    def decorate(function: Callable[Concatenate[P, More], R]) -> Callable[..., R]:
        own = inspect.signature(function, eval_str=True)
        fields = [
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=field.default,
                annotation=_annotation(name, field),
            )
            for name, field in kind.model_fields.items()
            if checked or not _is_hidden(field)
        ]
        signature = own.replace(parameters=[*fields, *list(own.parameters.values())[1:]])

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> R:
            given = signature.bind(*args, **kwargs).arguments
            ours = {name: value for name, value in given.items() if name in kind.model_fields}
            more = {name: value for name, value in given.items() if name not in ours}
            parameters = kind.check(**ours) if checked else kind.model_construct(**ours)
            return function(parameters, **more)  # type: ignore[call-arg]

        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__annotations__ = {name: entry.annotation for name, entry in signature.parameters.items()}
        return call

    return decorate


def _is_hidden(field: FieldInfo) -> bool:
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("hidden"))


def _annotation(name: str, field: FieldInfo) -> Any:
    """Return a parameter's type with what Typer shows of it, and what Prefect's form shows and checks.

    The form has the bounds, but Prefect does not check them again when the run starts: the message of
    `Parameters.check` names the option.
    """
    extra = dict(field.json_schema_extra) if isinstance(field.json_schema_extra, dict) else {}
    extra.pop("hidden", None)
    unset = extra.pop("unset", "")
    described = f"{field.description}. If empty: {unset}." if unset else f"{field.description}."
    words: dict[str, Any] = {"title": field.title, "description": described}
    schema = _schema(field) | extra
    default = f" (default: {unset})" if unset else ""
    option = typer.Option(help=f"{field.description}{default}.", show_default=False)
    if field.annotation is bool:  # off unless given: no `--no-…` beside it
        option.param_decls = (f"--{name.replace('_', '-')}",)
    elif allowed := choices(name):
        option.autocompletion = lambda incomplete: [word for word in allowed if word.startswith(incomplete)]
    return Annotated[
        field.annotation,
        option,
        WithJsonSchema(schema),
        Field(json_schema_extra=words),
    ]


def _schema(field: FieldInfo) -> dict[str, Any]:
    """Return the JSON schema of a parameter that is given; None means that it is not."""
    given = _given(field.annotation)
    return TypeAdapter(Annotated[given, *field.metadata] if field.metadata else given).json_schema()


def _given(annotation: Any) -> Any:
    """Return `str` of `str | None`."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return kinds[0] if isinstance(annotation, UnionType) else annotation


def find_version(registry: Registry, version: str, option: str = "--version") -> VersionEntry:
    """Return the version that an option or argument names.

    Raises:
        SettingsError: there is no such version.
    """
    entry = registry.version(version)
    if entry is None:
        close = difflib.get_close_matches(version, registry.versions(), n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise SettingsError(
            f"{option} {version}: there is no such version in {registry.store.location(registry.namespace)}"
            f"{hint}",
            "`python -m flows versions` lists those that exist",
        )
    return entry


def check_night(night: str | None, today: date) -> None:
    """Check that a night is not in the future: it would stay the newest one until its date comes.

    Args:
        night: the given one; None if none was given.
        today: the UTC date.

    Raises:
        SettingsError: it is.
    """
    if night is not None and date.fromisoformat(night) > today:
        raise SettingsError(
            f"--night {night}: is in the future: the UTC date is {today}",
            "leave --night out for today, or give an earlier date",
        )


def check_member(member: int, settings: Settings) -> int:
    """Return the number of a member that a night of these settings trains.

    Raises:
        SettingsError: the model is a single network, or a night trains fewer.
    """
    count = find(settings.model).members(settings.preset)
    if not count:
        raise SettingsError(f"member {member}: {settings.model} is a single network", "leave --member out")
    if not 1 <= member <= count:
        raise SettingsError(
            f"member {member}: a night of {settings.model} {settings.preset} trains {count}",
            f"it must be 1 to {count}",
        )
    return member
