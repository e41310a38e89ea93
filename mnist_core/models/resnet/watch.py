"""The callback that reports a fastai training and stops it if it diverges."""

from __future__ import annotations

import math
from typing import Any

from mnist_core.progress import Progress


def make_watch(per_epoch: int, epochs: int, progress: Progress | None, *, validate: bool) -> Any:
    """Return the fastai callback that reports each batch and stops at a loss that is not finite.

    Args:
        per_epoch: batches in an epoch.
        epochs: in all.
        progress: as `fit` takes it.
        validate: whether epochs end with their validation.

    Returns:
        The callback; after the training its `failure` says what went wrong, or is empty.
    """
    from fastai.callback.core import Callback, CancelFitException, CancelValidException

    class Watch(Callback):
        done = 0
        failure = ""

        def after_batch(self) -> None:
            if not self.training:
                return
            self.done += 1
            loss = self.learn.loss.item()
            epoch = math.ceil(self.done / per_epoch)
            if not math.isfinite(loss):
                # fastai rewords a callback's own exceptions; its Cancel… ones end the training quietly.
                self.failure = self.failure or f"the loss is {loss} in epoch {epoch} of {epochs}"
                raise CancelFitException
            if progress is not None:
                progress(self.done, per_epoch * epochs, f"epoch {epoch}/{epochs}  loss {loss:.2f}")

        def before_validate(self) -> None:
            if not validate:
                raise CancelValidException

    return Watch()
