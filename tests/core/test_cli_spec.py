"""The library's commands for other competitions than digit-recognizer: `--spec`, and what a bundle keeps."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mnist_core.bundle import export
from mnist_core.digits import Digits, read_test, read_train, write_csv
from mnist_core.folders import read_pngs, write_pngs
from mnist_core.images import from_image
from mnist_core.inference import predict
from mnist_core.manifest import MANIFEST, read_manifest
from mnist_core.models.convnet.net import ConvNet
from mnist_core.spec import DIGIT_RECOGNIZER, DIGITS_MINI, read_spec

SIGNS = """
name = "signs"
source = "labelled.csv"
classes = ["a, b", "über", "x/y", ".hidden", "say \\"z\\""]
shape = [9, 17, 3]

[columns]
label = "sign"
id = "key"
delimiter = ";"

[submission]
header = ["key", "sign"]

[training]
least_rows = 0
"""
SHADES = """
name = "shades"
metric = "log_loss"
classes = ["dark", "light"]
shape = [8, 8, 1]
value_range = [0, 1]

[columns]
label = -1
header = false

[submission]
header = ["id", "p_{}"]
first_id = 100
"""


def field(text):
    """Return a text as a CSV file of semicolons has it."""
    return '"' + text.replace('"', '""') + '"' if set(text) & {'"', ";"} else text


@pytest.fixture(scope="module")
def signs(tmp_path_factory):
    """A folder with the files of a competition in colour: text labels behind the pixels, text ids."""
    folder = tmp_path_factory.mktemp("signs")
    (folder / "spec.toml").write_text(SIGNS)
    classes = read_spec(folder / "spec.toml").classes
    random = np.random.default_rng(1)
    pixels = [f"pixel{number}" for number in range(9 * 17 * 3)]
    inks = random.integers(0, 256, (90, len(pixels)))
    train = [";".join([*pixels, "sign"])]
    train += [";".join([*map(str, ink), field(classes[row % 5])]) for row, ink in enumerate(inks[:60])]
    test = [";".join(["key", *pixels])]
    test += [";".join([f"no. {7 * row}", *map(str, ink)]) for row, ink in enumerate(inks[60:])]
    (folder / "train.csv").write_text("\n".join([*train, ""]), "utf-8")
    (folder / "test.csv").write_text("\n".join([*test, ""]), "utf-8")
    return folder


@pytest.fixture(scope="module")
def shades(tmp_path_factory):
    """A folder with the files of a competition of two classes without headers, scored by log loss."""
    folder = tmp_path_factory.mktemp("shades")
    (folder / "spec.toml").write_text(SHADES)
    inks = np.random.default_rng(2).random((40, 64)) / 2 + np.arange(40)[:, None] % 2 / 2
    rows = [",".join(f"{ink:.4f}" for ink in picture) for picture in inks]
    names = ["dark", "light"] * 15
    labelled = [f"{row},{name}" for row, name in zip(rows, names, strict=False)]
    (folder / "train.csv").write_text("\n".join([*labelled, ""]))
    (folder / "test.csv").write_text("\n".join([*rows[30:], ""]))
    return folder


@pytest.fixture(scope="module")
def bundle_of(tmp_path_factory):
    """Return a bundle of an untrained network for a folder's competition."""

    def make(folder):
        spec = read_spec(folder / "spec.toml")
        bundle = tmp_path_factory.mktemp("bundles") / spec.name
        torch.manual_seed(1)
        net = ConvNet((4, 6), shape=spec.shape, classes=spec.class_count).eval()
        export(net, bundle, {}, learner=False, spec=spec)
        return SimpleNamespace(path=bundle, net=net)

    return make


def test_train_and_submission_of_another_competition(cli, signs, tmp_path):
    """The bundle keeps the competition, so that the submission has its header, its ids and its labels."""
    trained = cli(
        "train", signs / "train.csv", tmp_path / "new", "--epochs", 1, "--spec", signs / "spec.toml"
    )
    done = cli("submission", tmp_path / "new", signs / "test.csv", tmp_path / "out.csv")

    assert trained.code == done.code == 0, trained.err + done.err
    spec = read_spec(signs / "spec.toml")
    kept = read_manifest(tmp_path / "new").spec
    assert kept.source == "competition"  # and not a path of this machine
    assert (kept.classes, kept.shape, kept.id_column) == (spec.classes, spec.shape, "key")
    lines = (tmp_path / "out.csv").read_text("utf-8").splitlines()
    assert lines[0] == "key,sign"
    assert [line.partition(",")[0] for line in lines[1:]] == [f"no. {7 * row}" for row in range(30)]
    written = {'"a, b"', "über", "x/y", ".hidden", '"say ""z"""'}
    assert {line.partition(",")[2] for line in lines[1:]} <= written


def test_a_submission_of_probabilities(cli, shades, bundle_of, tmp_path):
    """For log loss each class has a column, and ids count up from the specification's first one."""
    bundle = bundle_of(shades)

    done = cli("submission", bundle.path, shades / "test.csv", tmp_path / "out.csv")

    assert done.code == 0, done.err
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "id,p_dark,p_light"
    table = np.array([list(map(float, line.split(","))) for line in lines[1:]])
    assert table[:, 0].tolist() == list(range(100, 110))
    pixels = read_test(shades / "test.csv", read_spec(shades / "spec.toml")).pixels
    np.testing.assert_allclose(table[:, 1:], predict(bundle.net, pixels), atol=1e-4)


def test_predict_reads_a_row_and_names_its_class(cli, signs, bundle_of):
    """A row of the bundle's competition is read as its specification says, and both classes are named."""
    bundle = bundle_of(signs)
    spec = read_spec(signs / "spec.toml")
    digits = read_train(signs / "train.csv", spec)
    best = int(predict(bundle.net, digits.pixels[3:4])[0].argmax())

    machine = cli("predict", bundle.path, signs / "train.csv", "--row", 4, "--json", "--show")
    person = cli("predict", bundle.path, signs / "train.csv", "--row", 4)

    found = json.loads(machine.out)
    assert (found["digit"], found["class"], found["label"]) == (best, spec.classes[best], 3)
    assert len(machine.err.rstrip("\n").splitlines()) >= 4  # 9 rows of pixels, two in a line
    assert "labelled .hidden" in " ".join(person.out.split())
    assert f"{spec.classes[best]}  with" in person.out


@pytest.mark.parametrize("size", [(17, 9), (170, 90), (400, 90), (90, 200)])
def test_predict_fits_a_picture_into_the_bundles_shape(cli, signs, bundle_of, tmp_path, size):
    """In colour and oblong: the whole picture, its aspect kept, on what its border shows."""
    image = Image.new("RGB", size, (200, 30, 60))
    image.paste((10, 240, 90), (size[0] // 4, size[1] // 4, 3 * size[0] // 4, 3 * size[1] // 4))
    image.save(tmp_path / "sign.png")
    spec = read_spec(signs / "spec.toml")

    done = cli("predict", bundle_of(signs).path, tmp_path / "sign.png", "--json")

    fitted = from_image(image, spec)
    assert done.code == 0, done.err
    assert fitted.shape == (9, 17, 3)
    assert np.abs(fitted[[0, -1], [0, -1]].astype(int) - (200, 30, 60)).max() <= 2
    assert fitted[4, 8, 1] > 200 > 60 > fitted[4, 8, 0]
    if size == (17, 9):
        assert np.array_equal(fitted, np.array(image))


def test_a_picture_in_grey_is_bright_on_dark(shades):
    """Files hold 0 as background, so a picture with a bright border is turned into its negative."""
    spec = read_spec(shades / "spec.toml")
    paper = Image.new("L", (80, 80), 250)
    paper.paste(20, (20, 20, 60, 60))

    for image in (paper, Image.fromarray(255 - np.array(paper)), paper.convert("RGBA"), paper.convert("I")):
        fitted = from_image(image, spec)
        assert fitted[0, 0] < 20 < 200 < fitted[4, 4]


def test_a_margin_fits_the_ink_of_an_oblong_competition(tmp_path, shades):
    """With a margin the ink is cropped, fitted into what the margin leaves, and centred, as MNIST's is."""
    text = SHADES.replace("[8, 8, 1]", "[24, 40, 1]") + "\n[pictures]\nmargin = 2\n"
    (tmp_path / "spec.toml").write_text(text)
    image = Image.new("L", (300, 300), 255)
    image.paste(0, (30, 200, 50, 240))

    digit = from_image(image, read_spec(tmp_path / "spec.toml"))

    rows, columns = np.nonzero(digit > 25)
    assert (rows.min(), rows.max()) == (2, 21)
    assert (columns.min() + columns.max()) in (39, 41)


@pytest.mark.parametrize("name", ["train", "test"])
def test_convert_in_colour_there_and_back(cli, signs, tmp_path, name):
    """PNGs are in colour; classes and ids that a file cannot be named come back as they were."""
    spec = ("--spec", signs / "spec.toml")

    there = cli("convert", signs / f"{name}.csv", tmp_path / "pngs", *spec)
    again = cli("convert", signs / f"{name}.csv", tmp_path / "pngs", *spec)
    back = cli("convert", tmp_path / "pngs", tmp_path / f"{name}.csv", *spec)

    assert there.code == back.code == 0, there.err + back.err
    assert ", 0 of them written now" in again.err
    read = read_train if name == "train" else read_test
    before, after = (
        read(folder / f"{name}.csv", read_spec(signs / "spec.toml")) for folder in (signs, tmp_path)
    )
    assert np.array_equal(before.pixels, after.pixels)
    assert before.ids == after.ids
    if name == "train":
        assert np.array_equal(before.labels, after.labels)
        assert (tmp_path / "pngs" / "%2Ehidden").is_dir()
    first = next(iter((tmp_path / "pngs").rglob("*.png")))
    with Image.open(first) as image:
        assert (image.mode, image.size) == ("RGB", (17, 9))


def test_colour_pictures_of_other_programs_are_read(signs, tmp_path):
    """A PNG that Pillow wrote, with another palette or mode, has the same colours."""
    spec = read_spec(signs / "spec.toml")
    digits = read_train(signs / "train.csv", spec)[:2]
    write_pngs(Digits(digits.pixels, None, spec), tmp_path)
    for file in tmp_path.glob("*.png"):
        Image.open(file).convert("RGBA").save(file, optimize=True)

    found = read_pngs(tmp_path, spec)

    assert np.array_equal(found.pixels, digits.pixels)
    assert found.ids == ("0", "1")


def test_a_submission_from_pngs_has_their_names_as_ids(cli, signs, bundle_of, tmp_path):
    """A folder of a competition with ids gives the submission that its file gives, in another order."""
    bundle = bundle_of(signs).path
    cli("convert", signs / "test.csv", tmp_path / "pngs", "--spec", signs / "spec.toml")

    for source in (signs / "test.csv", tmp_path / "pngs"):
        done = cli("submission", bundle, source, tmp_path / f"{source.stem}.csv")
        assert done.code == 0, done.err

    of_file, of_pngs = (
        sorted((tmp_path / name).read_text("utf-8").splitlines()) for name in ("test.csv", "pngs.csv")
    )
    assert of_file == of_pngs


def test_a_sheet_in_colour_with_captions(cli, signs, bundle_of, tmp_path):
    """Without `--spec` the bundle's competition is read; its classes are the captions."""
    out = tmp_path / "hard.png"

    done = cli(
        "sheet", signs / "train.csv", out, "--order", "hardness", "--bundle", bundle_of(signs).path,
        "--columns", 2, "--rows", 2,
    )  # fmt: skip

    assert done.code == 0, done.err
    with Image.open(out) as image:
        colours = np.array(image)
    assert np.ptp(colours, axis=2).max() > 100


def test_a_built_in_competition_by_its_name(cli, synthetic, tmp_path):
    """`--spec digits-mini` is the built-in one, and without the option it is digit-recognizer."""
    write_csv(synthetic(60), tmp_path / "train.csv")
    for name, option in (("mini", ["--spec", "digits-mini"]), ("digits", [])):
        done = cli("train", tmp_path / "train.csv", tmp_path / name, "--epochs", 1, *option)
        assert done.code == 0, done.err

    assert read_manifest(tmp_path / "mini").spec == DIGITS_MINI
    assert read_manifest(tmp_path / "digits").spec == DIGIT_RECOGNIZER


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("convert train.csv out --spec gone.toml", "gone.toml: is neither a file nor a built-in"),
        ("convert train.csv out", "train.csv: header, column 1: found 'pixel0;pixel1;"),
        ("submission bundle test.csv out.csv --spec digits-mini", "leave out --spec to use the bundle's own"),
        ("submission old test.csv out.csv", "old: does not say of which competition it is; name it with"),
        (
            "train train.csv new --model resnet18 --preset origin --spec spec.toml",
            "the preset origin is for pictures of 28 × 28 pixels and classes 0..9, and signs has others",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(cli, signs, bundle_of, tmp_path, monkeypatch, arguments, message):
    """A specification that is missing, or not the bundle's, is reported with what to do."""
    monkeypatch.chdir(tmp_path)
    for file in signs.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "bundle").symlink_to(bundle_of(signs).path)
    (tmp_path / "old").mkdir()
    manifest = json.loads((tmp_path / "bundle" / MANIFEST).read_text())
    del manifest["competition"]
    (tmp_path / "old" / MANIFEST).write_text(json.dumps(manifest))

    done = cli(*arguments.split())

    assert done.code == 1, done.err
    assert message in done.err
    assert done.err.count("\n") == 1
