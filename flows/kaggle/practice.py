"""The practice server of this home, with the competition that the settings describe: the one way to it.

`infra/practice` knows nothing of the flows: it is given a specification and labelled rows.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from flows.settings import DATASET, Settings, SettingsError

if TYPE_CHECKING:
    from flows.ops.practice import Practice


def find_practice_server(settings: Settings) -> "Practice":
    """Return the practice server of this home, started if none runs, with the competition of the settings.

    Raises:
        SettingsError: there is no practice server here.
        PracticeError: it does not start, or the competition has no labelled rows, or wrong ones.
    """
    try:
        from flows.ops.practice import Own, find_or_start
        from infra.practice import PracticeOptions
    except ModuleNotFoundError as error:
        if error.name not in ("infra", "infra.practice"):
            raise
        raise SettingsError(
            "this image does not contain the practice server",
            "set MNIST_KAGGLE to `live`, or to a server's URL",
        ) from None
    own = None
    if settings.spec is not None and (labelled := _labelled(settings)) is not None:
        own = Own(settings.spec.text, labelled)
    return find_or_start(
        settings.home / "practice",
        PracticeOptions(split_seed=settings.split_seed, daily_limit=settings.daily_limit),
        competition=settings.competition,
        own=own,
    )


def _labelled(settings: Settings) -> Path | None:
    """Return the file of labelled rows, that of a data set downloaded first; None if none is named."""
    if settings.labelled is None and settings.competition_spec.source.startswith(DATASET):
        from flows.kaggle.datasets import labelled_file

        return labelled_file(settings)
    return settings.labelled
