"""The registry: what it finds, and what it refuses."""

import subprocess
import sys
from dataclasses import replace

import pytest

from mnist_core.errors import ModelError
from mnist_core.models import base
from mnist_core.models.base import COMMON_PRESETS, ModelKind, build, find, kinds, register
from mnist_core.models.convnet import PRESETS


def test_the_models_are_found_by_themselves():
    """Each sub-package of models registers itself; the nightly job trains those that have a floor."""
    assert list(kinds()) == ["convnet", "ensemble", "resnet18", "scratch", "scratch-regression"]
    assert {name: kind.floor for name, kind in kinds().items() if kind.nightly} == {
        "convnet": 0.99,
        "ensemble": 0.995,
        "resnet18": 0.99,
        "scratch": 0.95,
    }


def test_a_new_sub_package_is_a_new_model(tmp_path):
    """A folder with an __init__ that registers is all that it takes to be trained and built."""
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from mnist_core.models import scratch\n"
        "from mnist_core.models.base import ModelKind, register\n"
        "net = 'mnist_core.models.scratch.net'\n"
        "register(ModelKind('mine', scratch.PRESETS, f'{net}:fit', f'{net}:build', floor=0.5))\n"
    )
    script = (
        "import mnist_core.models\n"
        f"mnist_core.models.__path__.append({str(tmp_path)!r})\n"
        "from mnist_core.models.base import build, find, kinds\n"
        "assert 'mine' in kinds() and find('mine').nightly\n"
        "assert build('mine', {'hidden': [3]}).sizes == {'hidden': [3]}\n"
    )

    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_unknown_model_is_refused_with_the_known_ones():
    """A misspelt model lists those that exist, and the one that was probably meant."""
    with pytest.raises(ModelError, match="there is no model 'convnt'") as refusal:
        find("convnt")
    assert refusal.value.remedy.startswith("did you mean convnet? choose one of convnet, ensemble, resnet18")


def test_an_unknown_preset_is_refused_with_the_known_ones():
    """The message lists the model's own presets."""
    with pytest.raises(ModelError, match="resnet18 has no preset 'wide'; choose one of fast, balanced, best"):
        find("resnet18").recipe("wide")


def test_a_recipe_takes_other_epochs():
    """A number of epochs replaces the preset's and leaves the preset itself alone; 0 is refused."""
    kind = find("convnet")

    assert kind.recipe("fast", 3) == replace(PRESETS["fast"], epochs=3)
    assert kind.recipe("fast") is PRESETS["fast"]
    with pytest.raises(ModelError, match="epochs is 0; a network trains for 1 or more"):
        kind.recipe("fast", 0)


def test_an_ensemble_says_how_many_members_a_night_adds():
    """Only an ensemble has members; a single network adds none."""
    assert [find("ensemble").members(preset) for preset in COMMON_PRESETS] == [2, 2, 5]
    assert find("convnet").members("best") == 0


def test_two_models_of_one_name_are_refused(monkeypatch):
    """A second model of a name is an error when it registers, not a surprise when it trains."""
    monkeypatch.setattr(base, "_registered", {})
    register(ModelKind("mine", PRESETS, "a:fit", "a:build"))
    register(ModelKind("mine", PRESETS, "a:fit", "a:build"))

    with pytest.raises(ModelError, match="two models named 'mine'"):
        register(ModelKind("mine", PRESETS, "b:fit", "b:build"))


def test_a_model_without_a_common_preset_is_refused(monkeypatch):
    """The settings offer the same three presets for every model."""
    monkeypatch.setattr(base, "_registered", {})

    with pytest.raises(ModelError, match="mine has no preset balanced, best"):
        register(ModelKind("mine", {"fast": PRESETS["fast"]}, "a:fit", "a:build"))


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        *(("convnet", sizes) for sizes in ({}, {"widths": [8]}, {"widths": 3, "shifts": False}, [])),
        *(
            ("resnet18", sizes)
            for sizes in ({"crop": 0}, {"crop": 29}, {"crop": "all"}, {"side": 0}, {"zoom": 2})
        ),
        *(("scratch", sizes) for sizes in ({}, {"hidden": 3}, {"hidden": ["a"]}, [])),
        *(("scratch-regression", sizes) for sizes in ({}, {"hidden": 3})),
        ("ensemble", {"members": [{"model": "convnet"}], "temperature": 1}),
    ],
)
def test_sizes_of_another_model_are_refused(model, sizes):
    """Sizes that do not belong to the model are a ModelError, not a traceback from deep inside."""
    with pytest.raises(ModelError, match=f"{model} has no sizes"):
        build(model, sizes)
