"""The contract of a model, and the models by name.

A model is a sub-package of `mnist_core.models`. Its `__init__.py` says how it is trained (a recipe for each
preset) and registers it:

    register(ModelKind("mine", PRESETS, fit_from="…mine.net:fit", build_from="…mine.net:build", floor=0.99))

Nothing else needs to be edited: the command lines, the settings and the documents ask `kinds()`. They ask it
before anything is trained, so an `__init__.py` must not import torch, which takes seconds; the network and
its training stand in other files of the sub-package, imported by the first `fit` or `build`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pkgutil import iter_modules, resolve_name
from typing import TYPE_CHECKING, Any

from mnist_core.errors import ModelError
from mnist_core.spec import DIGIT_RECOGNIZER

if TYPE_CHECKING:
    import numpy as np
    import torch

    from mnist_core.models.network import Network
    from mnist_core.progress import Progress
    from mnist_core.recipes import Space

COMMON_PRESETS = ("fast", "balanced", "best")
"""The presets that every model has, each training longer than the one before."""

Recipe = Any
"""How a network is trained: a frozen dataclass of the model's own, with at least `epochs`, an int.

If it derives from `Adapted`, it follows the competition's `[augmentation]` and `[training]`."""


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """What a recipe takes over from the competition; the defaults are those of digit-recognizer."""

    mirror: bool = False
    """Whether half of the training pictures are mirrored."""
    amount: float = 1.0
    """How strong augmentation is, as a part of the preset's."""
    least_rows: int = 0
    """On fewer rows the epochs are repeated, so that the steps are as many as on these."""


@dataclass(frozen=True)
class ModelKind:
    """A model that can be trained, exported and used.

    Attributes:
        name: what `--model` and a bundle's manifest call it; its networks carry it as `name`.
        presets: recipes by name; `COMMON_PRESETS` are among them.
        fit_from: `module:function` of `fit(pixels, labels, recipe, *, seed, device, progress)`, which trains
            a network from scratch: pixels uint8 (N, 28, 28), labels int64 (N,). The same seed gives the same
            weights bit for bit on a CPU with the same number of threads. For a competition of other classes
            than digit-recognizer it is called with `classes`, their number.
        build_from: `module:function` of `build(sizes)`, which makes an untrained network of the `sizes` that
            another one carries, in plain torch.
        floor: lowest held-out accuracy that the nightly job submits; None if the job does not train it.
        pretrained: whether it can start from pretrained weights; its recipes then have
            the field `pretrained`.
        teachable: whether `fit` also takes `teachers`, networks of the same kind whose mean probabilities
            it learns instead of the labels.
        member: of a model that consists of several networks: a function of a recipe and a number, counted
            from 0 without end, that returns the name of the model which that network is, and its recipe. Such
            recipes have a field `members`, and its networks carry theirs as `members`.
        space: a function of a recipe that returns which of its fields a search for a better one may change,
            and within which bounds; None if it is not searched.
        work: a function of a recipe that returns how long it trains, in any unit: only the ratio of two
            counts. A model with a `space` has one.
        round_logits: how logits float32 (N, 10) are read as labels int64 (N,) if not as the likeliest class.
    """

    name: str
    presets: Mapping[str, Recipe]
    fit_from: str
    build_from: str
    floor: float | None = None
    pretrained: bool = False
    teachable: bool = False
    member: Callable[[Recipe, int], tuple[str, Recipe]] | None = None
    space: Callable[[Recipe], Space] | None = None
    work: Callable[[Recipe], float] | None = None
    round_logits: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def nightly(self) -> bool:
        """Whether the nightly job trains it."""
        return self.floor is not None

    def members(self, preset: str) -> int:
        """Return how many networks a night adds to an ensemble; 0 if this model is a single network."""
        return 0 if self.member is None else self.recipe(preset).members

    def recipe(self, preset: str, epochs: int | None = None) -> Recipe:
        """Return the recipe of a preset, with another number of epochs if it is given.

        Raises:
            ModelError: the preset does not exist, or epochs is less than 1.
        """
        if preset not in self.presets:
            raise ModelError(
                f"{self.name} has no preset {preset!r}", f"choose one of {', '.join(self.presets)}"
            )
        if epochs is None:
            return self.presets[preset]
        if epochs < 1:
            raise ModelError(f"epochs is {epochs}", "a network trains for 1 or more")
        return replace(self.presets[preset], epochs=epochs)

    def network(self, recipe: Recipe, member: int | None = None) -> tuple[ModelKind, Recipe]:
        """Return the model and the recipe of a single network.

        Args:
            recipe: of this model.
            member: of an ensemble, the number of the network, from 0 without end; None: this model itself.

        Raises:
            ModelError: this model has no members, or the number is negative.
        """
        if member is None:
            return self, recipe
        if self.member is None:
            able = ", ".join(other.name for other in kinds().values() if other.member)
            raise ModelError(f"member is {member}, but {self.name} has no members", f"only {able} has")
        if member < 0:
            raise ModelError(f"member is {member}", "they are numbered from 0")
        name, recipe = self.member(recipe, member)
        return find(name), recipe

    def space_of(self, recipe: Recipe) -> Space:
        """Return which fields of a recipe may be changed, and within which bounds; none without a space."""
        return {} if self.space is None else self.space(recipe)

    def fit(
        self,
        pixels: np.ndarray,
        labels: np.ndarray,
        recipe: Recipe,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
        teachers: Sequence[Network] = (),
        classes: int = DIGIT_RECOGNIZER.class_count,
    ) -> Network:
        """Train a network, as `fit_from` does; teachers are for a model that is `teachable`."""
        fit: Callable[..., Network] = resolve_name(self.fit_from)
        options: dict[str, Any] = {"teachers": teachers} if teachers else {}
        if classes != DIGIT_RECOGNIZER.class_count:
            options["classes"] = classes
        return fit(pixels, labels, recipe, seed=seed, device=device, progress=progress, **options)

    def build(self, sizes: Mapping[str, Any]) -> Network:
        """Make an untrained network of the `sizes` that another one carries.

        Raises:
            ModelError: these are not sizes of this model.
        """
        build: Callable[..., Network] = resolve_name(self.build_from)
        try:
            return build(sizes)
        except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
            raise ModelError(f"{self.name} has no sizes {sizes!r} ({error!r})") from error

    def read_labels(self, logits: np.ndarray) -> np.ndarray:
        """Return the labels, int64 (N,), that this model reads in logits float32 (N, 10)."""
        return logits.argmax(1) if self.round_logits is None else self.round_logits(logits)


_registered: dict[str, ModelKind] = {}


def register(kind: ModelKind) -> None:
    """Make a model known by its name.

    Raises:
        ModelError: another model has that name, or one of `COMMON_PRESETS` is missing.
    """
    if _registered.get(kind.name, kind) != kind:
        raise ModelError(f"there are two models named {kind.name!r}", "rename one of them")
    if missing := [preset for preset in COMMON_PRESETS if preset not in kind.presets]:
        raise ModelError(f"{kind.name} has no preset {', '.join(missing)}", "every model has these three")
    _registered[kind.name] = kind


@cache
def kinds() -> Mapping[str, ModelKind]:
    """Return all models by name, in alphabetical order; torch is not imported."""
    package = import_module("mnist_core.models")
    for module in iter_modules(package.__path__):
        if module.ispkg:
            import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(_registered.items()))


def find(model: str) -> ModelKind:
    """Return the model of a name.

    Raises:
        ModelError: there is none; the message lists those that exist.
    """
    if model not in kinds():
        near = get_close_matches(str(model), kinds(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ModelError(f"there is no model {model!r}", f"{hint}choose one of {', '.join(kinds())}")
    return kinds()[model]


def build(model: str, sizes: Mapping[str, Any]) -> Network:
    """Make the untrained network that a bundle's manifest names, in plain torch.

    Args:
        model: a name in `kinds()`.
        sizes: what a network of that model carries as `net.sizes`.

    Returns:
        A module that turns pixels uint8 (N, 28, 28) into logits float32 (N, 10), in training mode, on the
        CPU.

    Raises:
        ModelError: the model is unknown, or the sizes are not its.
    """
    return find(model).build(sizes)
