"""`python -m mnist_core`: what each command writes, prints and refuses."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from mnist_core import __version__
from mnist_core.bundle import export, load, load_learner
from mnist_core.digits import Digits, read_test, read_train, write_csv
from mnist_core.drawing import sheet
from mnist_core.evaluation import evaluate
from mnist_core.folders import read_digits, read_pngs, write_pngs
from mnist_core.folds import assign_folds
from mnist_core.images import from_image
from mnist_core.inference import predict
from mnist_core.models.base import kinds
from mnist_core.models.convnet.net import ConvNet
from mnist_core.models.regression.net import Regression
from mnist_core.spec import DIGIT_RECOGNIZER, DIGITS_MINI
from mnist_core.submission import read_csv


@pytest.fixture(scope="module")
def net():
    """Return a small untrained network: it prefers some class, and is never certain."""
    torch.manual_seed(3)
    return ConvNet((4, 6, 8, 10)).eval()


@pytest.fixture(scope="module")
def bundle(net, tmp_path_factory):
    """Return its bundle."""
    folder = tmp_path_factory.mktemp("cli") / "bundle"
    export(net, folder, {}, spec=replace(DIGIT_RECOGNIZER, test_rows=DIGITS_MINI.test_rows))
    return folder


@pytest.fixture(scope="module")
def files(synthetic, tmp_path_factory):
    """Return a folder with a train.csv of 60 rows, a test.csv of 30, and PNGs of both."""
    folder = tmp_path_factory.mktemp("files")
    for name, digits in (("train", synthetic(60)), ("test", synthetic(30, seed=1, labelled=False))):
        write_csv(digits, folder / f"{name}.csv")
        write_pngs(digits, folder / name)
    return folder


def picture(text, ground="white", ink="black", mode="RGB"):
    """Draw a printed digit, 90 × 140 pixels."""
    image = Image.new(mode, (90, 140), ground)
    ImageDraw.Draw(image).text((45, 70), text, ink, ImageFont.load_default(80), anchor="mm")
    return image


# convert


@pytest.mark.parametrize("name", ["train", "test"])
def test_convert_there_and_back_loses_nothing(cli, files, tmp_path, name):
    """CSV → PNGs → CSV is the same file, byte for byte."""
    there = cli("convert", files / f"{name}.csv", tmp_path / "pngs")
    back = cli("convert", tmp_path / "pngs", tmp_path / "back.csv")

    assert (there.code, back.code) == (0, 0)
    assert (tmp_path / "back.csv").read_bytes() == (files / f"{name}.csv").read_bytes()
    assert there.err.startswith(f"{tmp_path / 'pngs'}: {60 if name == 'train' else 30} digits in ")
    assert there.out == back.out == ""


def test_convert_writes_the_folders_of_the_original_notebook(cli, files, tmp_path):
    """The files are training/<label>/<i>.png and test/<i>.png, from row 0 on."""
    cli("convert", files / "train.csv", tmp_path / "training")
    cli("convert", files / "test.csv", tmp_path / "test")

    labels = read_train(files / "train.csv").labels
    assert all((tmp_path / "training" / str(label) / f"{i}.png").is_file() for i, label in enumerate(labels))
    assert all((tmp_path / "test" / f"{i}.png").is_file() for i in range(30))


def test_convert_resumes(cli, files, tmp_path):
    """A second run writes what is missing, and reports how much that was."""
    cli("convert", files / "test.csv", tmp_path / "pngs")
    for i in (3, 7):
        (tmp_path / "pngs" / f"{i}.png").unlink()

    again = cli("convert", files / "test.csv", tmp_path / "pngs")

    assert again.code == 0
    assert "30 digits, 2 of them written now" in again.err
    assert np.array_equal(read_pngs(tmp_path / "pngs").pixels, read_test(files / "test.csv").pixels)


def test_convert_reads_fastais_mnist_png(cli, files, tmp_path):
    """training/<label>/… and testing/<label>/… become one train.csv."""
    digits = read_train(files / "train.csv")
    for part, rows in (("training", slice(0, 40)), ("testing", slice(40, 60))):
        write_pngs(digits[rows], tmp_path / "mnist_png" / part)

    assert cli("convert", tmp_path / "mnist_png", tmp_path / "all.csv").code == 0
    assert (tmp_path / "all.csv").read_bytes() == (files / "train.csv").read_bytes()


def test_convert_refuses_a_folder_of_something_else(cli, files, tmp_path):
    """Digits of different files are never mixed."""
    again = cli("convert", files / "train.csv", files / "test")

    assert again.code == 1
    assert again.err.startswith(f"error: {files / 'test'}: holds ")
    assert again.err.count("\n") == 1


# predict


def test_show_draws_what_the_network_saw(cli, bundle, tmp_path):
    """Without colours too: the digit as it was found and centred, two rows of pixels in a line."""
    picture("1").save(tmp_path / "one.png")

    done = cli("predict", bundle, tmp_path / "one.png", "--show", "--json")

    drawn = done.err.splitlines()[:14]
    found = from_image(picture("1"))
    mean = (found[::2].astype(int) + found[1::2]) // 2
    assert [len(line) > 0 for line in drawn] == (mean > 25).any(1).tolist()
    assert max(map(len, drawn)) <= 28
    assert json.loads(done.out)["sure"] in (True, False)


def test_predict_prints_the_digit_and_a_bar_for_each_class(cli, bundle, net, tmp_path):
    """The digit comes first, then ten bars as long as the probabilities beside them."""
    picture("3").save(tmp_path / "three.png")
    probabilities = predict(net, from_image(picture("3"))[None])[0]

    done = cli("predict", bundle, tmp_path / "three.png")

    assert done.code == 0
    assert ("not sure: " in done.err) == (probabilities.max() < 0.9)
    best = probabilities.argmax()
    lines = done.out.splitlines()
    assert "three.png" in done.out.replace("\n", "")
    assert any(line.startswith(f"{best}  with {100 * probabilities[best]:.2f} %") for line in lines)
    bars = [line for line in lines if line.endswith(" %") and " with " not in line]
    assert [line[0] for line in bars] == list("0123456789")
    for line, probability in zip(bars, probabilities, strict=True):
        assert line.split()[-2] == f"{100 * probability:.2f}"
        assert abs(line.count("█") - 30 * probability) <= 1


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA", "CMYK"])
def test_predict_takes_any_mode_and_both_polarities(cli, bundle, tmp_path, mode):
    """White on black and black on white give the same answer in every mode."""
    answers = set()
    for ground, ink in (("white", "black"), ("black", "white")):
        suffix = "jpg" if mode == "CMYK" else "png"
        file = tmp_path / f"{ground}.{suffix}"
        picture("5", ground, ink).convert(mode).save(file)
        done = cli("predict", bundle, file, "--json")
        assert done.code == 0, done.err
        answers.add(json.loads(done.out)["digit"])

    assert len(answers) == 1


def test_predict_takes_ink_on_a_transparent_background(cli, bundle, tmp_path):
    """Black ink gives the same answer on a transparent background as on white paper."""
    picture("5", (0, 0, 0, 0), "black", "RGBA").save(tmp_path / "glass.png")
    picture("5").save(tmp_path / "paper.png")

    glass, paper = (
        json.loads(cli("predict", bundle, tmp_path / name, "--json").out)
        for name in ("glass.png", "paper.png")
    )

    np.testing.assert_allclose(glass["probabilities"], paper["probabilities"], atol=0.05)


@pytest.mark.parametrize(("name", "label"), [("train.csv", True), ("test.csv", False)])
@pytest.mark.parametrize("row", [1, 17])
def test_predict_takes_a_row_of_a_csv(cli, bundle, net, files, name, label, row):
    """Rows count from 1 and are predicted unchanged; a known label is shown."""
    digits = read_digits(files / name)
    expected = predict(net, digits.pixels[row - 1 : row])[0]

    machine = json.loads(cli("predict", bundle, files / name, "--row", row, "--json").out)
    person = cli("predict", bundle, files / name, "--row", row)

    assert list(machine) == [
        "digit", "class", "probabilities", "source", "row", "label", "model", "sure"
    ]  # fmt: skip
    assert machine["digit"] == expected.argmax()
    np.testing.assert_allclose(machine["probabilities"], expected, rtol=1e-5)
    assert (machine["row"], machine["model"]) == (row, "convnet")
    assert machine["label"] == (digits.labels[row - 1] if label else None)
    assert f"row {row} of " in person.out
    assert ("labelled" in person.out) == label


def test_predict_needs_no_unicode(bundle, files):
    """If the output has only ASCII, bars consist of # signs."""
    process = subprocess.run(
        [sys.executable, "-m", "mnist_core", "predict", bundle, files / "test.csv", "--row", "1"],
        capture_output=True,
        env={"PYTHONIOENCODING": "ascii", "PATH": ""},
        check=False,
    )

    assert process.returncode == 0, process.stderr
    assert "#" in process.stdout.decode("ascii")


# train


@pytest.mark.parametrize("model", kinds())
@pytest.mark.parametrize("kind", ["csv", "folder"])
def test_train_exports_a_learner_and_prints_its_accuracy(cli, files, tmp_path, model, kind):
    """Every model is trained from a CSV file or its PNGs, and evaluated on fold 0."""
    source = files / "train.csv" if kind == "csv" else files / "train"
    digits = read_train(files / "train.csv")

    done = cli("train", source, tmp_path / "new", "--model", model, "--epochs", 1, "--seed", 5)

    assert done.code == 0, done.err
    net, manifest = load(tmp_path / "new")
    held_out = digits[assign_folds(digits.labels, manifest.facts["data_digest"]) == 0]
    evaluation = evaluate(predict(net, held_out.pixels), held_out.labels)
    facts = manifest.facts
    assert facts["valid_accuracy"] == evaluation.accuracy
    assert (manifest.model, facts["seed"], facts["preset"]) == (model, 5, "fast")
    assert (facts["rows"], facts["valid_rows"]) == (60 - evaluation.n, evaluation.n)
    low, high = evaluation.interval
    assert done.out == (
        f"accuracy {evaluation.accuracy:.4f} on {evaluation.n} held-out digits "
        f"(95 % interval {low:.4f} to {high:.4f})\n"
    )
    assert len(load_learner(tmp_path / "new").predict(held_out.pixels[0])) == 3


def test_a_csv_and_its_pngs_train_the_same_network(cli, files, tmp_path):
    """The folds depend on the digits alone, so digest, rows and weights are the same."""
    for name, source in (("a", files / "train.csv"), ("b", files / "train")):
        assert cli("train", source, tmp_path / name, "--epochs", 1, "--device", "cpu").code == 0

    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]


def test_train_from_a_teacher(cli, files, bundle, tmp_path):
    """The manifest names the teacher's files; a teacher of other digits or for another model is refused."""
    source, teacher, pupil = files / "train.csv", tmp_path / "teacher", tmp_path / "pupil"
    assert cli("train", source, teacher, "--epochs", 1).code == 0

    done = cli("train", source, pupil, "--epochs", 1, "--teacher", teacher)
    other = cli("train", source, tmp_path / "x", "--teacher", bundle)
    model = cli("train", source, tmp_path / "x", "--teacher", teacher, "--model", "scratch")

    assert done.code == 0, done.err
    master, learned = (json.loads((folder / "manifest.json").read_text()) for folder in (teacher, pupil))
    assert learned["teacher"] == master["files"] != learned["files"]
    assert (other.code, model.code) == (1, 2)
    assert "was trained on other digits" in other.err
    assert "scratch cannot learn from a teacher, only convnet can" in " ".join(model.err.split())


def test_train_by_the_original_recipe(cli, files, tmp_path):
    """`--preset origin` trains as the first notebook did, on its split, and is used like any other."""
    done = cli(
        "train", files / "train.csv", tmp_path / "new", "--model", "resnet18", "--preset", "origin",
        "--epochs", 1,
    )  # fmt: skip

    assert done.code == 0, done.err
    net, manifest = load(tmp_path / "new")
    assert tuple(manifest.facts[name] for name in ("preset", "rows", "valid_rows")) == ("origin", 48, 12)
    assert "on 12 held-out digits" in done.out
    assert predict(net, read_test(files / "test.csv").pixels).shape == (30, 10)


def test_train_the_linear_model_of_scratch(cli, files, tmp_path):
    """`--preset linear` is a single layer, 784 to 10."""
    done = cli(
        "train", files / "train.csv", tmp_path / "new", "--model", "scratch", "--preset", "linear",
        "--epochs", 2,
    )  # fmt: skip

    assert done.code == 0, done.err
    net, manifest = load(tmp_path / "new")
    assert manifest.facts["preset"] == "linear"
    assert sum(tensor.numel() for tensor in net.state_dict().values()) == 784 * 10 + 10


def test_train_never_writes_over_a_learner(cli, bundle, files):
    """A folder that is not empty is refused before anything is read."""
    done = cli("train", files / "train.csv", bundle)

    assert done.code == 1
    assert done.err == f"error: {bundle}: exists already; name a new folder for the learner\n"


# submission


@pytest.fixture
def full_test(synthetic, small_test_file, tmp_path_factory):
    """Return a folder with a complete test.csv and its PNGs."""
    folder = tmp_path_factory.mktemp("full")
    digits = synthetic(small_test_file, labelled=False)
    write_csv(digits, folder / "test.csv")
    write_pngs(digits, folder / "test")
    return folder


def test_a_submission_is_the_same_from_pngs_and_from_the_csv(cli, bundle, full_test, tmp_path):
    """Predicting from files and in memory gives equal submissions, as in the third and fourth notebook."""
    for source, out in (("test", "a.csv"), ("test.csv", "b.csv")):
        done = cli("submission", bundle, full_test / source, tmp_path / out)
        assert done.code == 0, done.err
        assert "500 digits by convnet" in done.err

    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_submission_of_labelled_digits_is_refused(cli, bundle, files, tmp_path):
    """train.csv in place of test.csv is an error."""
    done = cli("submission", bundle, files / "train", tmp_path / "submission.csv")

    assert done.code == 1
    assert "has labels, and a submission is for digits without" in done.err


def test_numbers_beyond_9_are_refused_or_clipped(cli, full_test, tmp_path):
    """A number that scratch-regression rounds to 11 is an error that says why, or becomes a 9 with --clip."""
    net = Regression([(torch.zeros(784, 1), torch.tensor([11.2]))])
    export(net, tmp_path / "bundle", {})
    files = tmp_path / "bundle", full_test / "test.csv", tmp_path / "submission.csv"

    refused = cli("submission", *files)
    assert refused.code == 1
    assert "ImageId 1: the label 11 is not a class" in refused.err
    assert not files[2].exists()

    assert cli("submission", *files, "--clip").code == 0
    assert set(read_csv(files[2])) == {9}


@pytest.mark.parametrize("number", [-70.0, -3.6, -1.2, -0.4, 0.4, 2.51, 4.49, 8.6, 9.4, 11.2, 70.0])
def test_the_number_of_a_regression_is_rounded_as_in_the_notebook(cli, full_test, tmp_path, number):
    """The number, which may lie outside 0..9, is found from the graph's output, too."""
    net = Regression([(torch.zeros(784, 1), torch.tensor([number]))])
    export(net, tmp_path / "bundle", {}, learner=False)
    files = tmp_path / "bundle", full_test / "test.csv", tmp_path / "submission.csv"
    expected = round(number)

    assert cli("submission", *files, "--clip").code == 0
    assert set(read_csv(files[2])) == {min(max(expected, 0), 9)}
    if abs(number) < 50:  # beyond, all numbers are equally far away
        refused = cli("submission", *files)
        assert refused.code == (0 if 0 <= expected <= 9 else 1)
        assert refused.code == 0 or f"the label {expected} is not a class" in refused.err


# sheet


@pytest.mark.parametrize(("columns", "rows"), [(5, 5), (8, 8), (3, 7)])
@pytest.mark.parametrize("source", ["train.csv", "test"])
def test_a_cover_picture_is_the_first_digits_edge_to_edge(cli, files, tmp_path, columns, rows, source):
    """The digits are a grid of any size without gaps, in the order of the rows, whatever holds them."""
    done = cli(
        "sheet", files / source, tmp_path / "cover.png", "--columns", columns, "--rows", rows, "--scale", 3
    )

    assert done.code == 0, done.err
    digits = read_digits(files / source).pixels[: columns * rows]
    filled = -(-len(digits) // columns)
    with Image.open(tmp_path / "cover.png") as image:
        assert image.size == (columns * 84, filled * 84)
        found = np.asarray(image.convert("L"))
    at = 28 * 3
    for i, digit in enumerate(digits):
        top, left = i // columns * at, i % columns * at
        tile = found[top : top + at, left : left + at]
        assert np.array_equal(tile, np.kron(digit, np.ones((3, 3), np.uint8)))


def test_a_sheet_by_class_has_the_same_number_of_each(cli, synthetic, tmp_path):
    """Twenty digits are the first two of each class, from 0 to 9."""
    digits = Digits(synthetic(60).pixels, np.random.default_rng(0).permutation(np.arange(60) % 10))
    write_csv(digits, tmp_path / "train.csv")

    cli("sheet", tmp_path / "train.csv", tmp_path / "a.png", "--columns", 2, "--rows", 10, "--order", "class")

    rows = np.concatenate([np.flatnonzero(digits.labels == label)[:2] for label in range(10)])
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(sheet(digits.pixels[rows], 2, 4, gap=0)))


def test_a_sheet_by_class_can_use_a_learners_predictions(cli, bundle, net, files, tmp_path):
    """Digits without labels are sorted by the learner's predictions; without a learner that is an error."""
    refused = cli("sheet", files / "test.csv", tmp_path / "a.png", "--order", "class")
    done = cli(
        "sheet", files / "test.csv", tmp_path / "a.png", "--order", "class", "--bundle", bundle, "--rows", 6
    )

    pixels = read_test(files / "test.csv").pixels
    order = np.argsort(predict(net, pixels).argmax(1), kind="stable")
    assert refused.code == 1
    assert "name a learner with --bundle" in refused.err
    assert done.code == 0, done.err
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(sheet(pixels[order], 5, 4, gap=0)))


def test_a_sheet_by_hardness_begins_with_the_hardest(cli, bundle, net, files, tmp_path):
    """The digit whose label got the lowest probability comes first, with a caption that shows the mistake."""
    digits = read_train(files / "train.csv")
    probabilities = predict(net, digits.pixels)
    hardest = np.argsort(probabilities[np.arange(60), digits.labels], kind="stable")[:6]
    captions = [
        f"{digits.labels[i]}→{probabilities[i].argmax()} {probabilities[i, digits.labels[i]]:.2f}"
        for i in hardest
    ]

    done = cli(
        "sheet", files / "train", tmp_path / "hard.png", "--columns", 3, "--rows", 2, "--scale", 2,
        "--order", "hardness", "--bundle", bundle,
    )  # fmt: skip

    assert done.code == 0, done.err
    with Image.open(tmp_path / "hard.png") as image:
        expected = sheet(digits.pixels[hardest], 3, 2, captions)
        assert np.array_equal(np.asarray(image), np.asarray(expected))


def test_hardness_needs_labels(cli, bundle, files, tmp_path):
    """Without labels there is no true class to compare with."""
    done = cli(
        "sheet", files / "test.csv", tmp_path / "a.png", "--order", "hardness", "--bundle", bundle
    )  # fmt: skip

    assert done.code == 1
    assert "test.csv: has no labels" in done.err


# errors and help


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("convert gone.csv out", "gone.csv: does not exist"),
        ("convert empty out.csv", "empty: holds no PNG"),
        ("predict bundle gone.png", "gone.png: does not exist"),
        ("predict bundle text.png", "text.png: is not a picture"),
        ("predict bundle blank.png", "blank.png: the picture is blank"),
        ("predict bundle empty", "empty: is a folder"),
        ("predict bundle test.csv --row 31", "test.csv: has 30 rows, so row 31 does not exist"),
        ("predict gone digit.png", "manifest.json cannot be read"),
        ("submission bundle test.csv out.csv", "test.csv: 30 digits, and a submission has 500"),
        ("sheet gone.csv a.png", "gone.csv: does not exist"),
        ("sheet test.csv no/folder/a.png", "no/folder/a.png: No such file or directory; create its folder"),
        ("train test.csv new", "test.csv: has no labels"),
        ("train train.csv new --pretrained", "convnet has no pretrained weights"),
    ],
)
def test_an_error_that_can_be_fixed_is_one_line_and_exit_code_1(
    cli, bundle, files, tmp_path, monkeypatch, arguments, message
):
    """The line names the file or the setting, and no traceback follows."""
    monkeypatch.chdir(tmp_path)
    for name, target in (
        ("bundle", bundle),
        ("train.csv", files / "train.csv"),
        ("test.csv", files / "test.csv"),
    ):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("hello")
    Image.new("L", (50, 50), 255).save(tmp_path / "blank.png")
    picture("1").save(tmp_path / "digit.png")

    done = cli(*arguments.split())

    assert done.code == 1
    assert message in done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert done.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("predict bundle test.csv", "say which one, counted from 1"),
        ("predict bundle test.csv --row 0", "--row"),
        ("predict bundle digit.png --row 1", "a picture holds one digit"),
        ("convert test.csv out.csv", "OUT is a folder for PNGs"),
        ("convert pngs pngs", "OUT is a CSV file"),
        ("sheet test.csv out.jpg", "name it *.png"),
        ("sheet test.csv out.png --order hardness", "--bundle"),
        ("sheet test.csv out.png --order random", "--order"),
        ("sheet test.csv out.png --columns 0", "--columns"),
        (
            "train test.csv new --model convent",
            "there is no model 'convent'; did you mean convnet? choose one of convnet, ensemble,",
        ),
        (
            "train test.csv new --preset origin",
            "convnet has no preset 'origin'; choose one of fast, balanced, best",
        ),
        ("train test.csv new --model scratch --preset x", "fast, balanced, best, linear"),
        ("train test.csv new --device gpu", "--device"),
        ("train test.csv new --epochs 0", "--epochs"),
        ("train test.csv new --seed -1", "--seed"),
        ("predict", "Missing argument"),
        ("recognise", "No such command"),
    ],
)
def test_a_usage_error_ends_with_exit_code_2(cli, files, tmp_path, monkeypatch, arguments, message):
    """A usage error differs from a wrong file by its exit code, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test.csv").symlink_to(files / "test.csv")
    (tmp_path / "pngs").mkdir()
    before = sorted(tmp_path.rglob("*"))

    done = cli(*arguments.split())

    assert done.code == 2
    assert message in " ".join(done.err.split())
    assert sorted(tmp_path.rglob("*")) == before


def test_help_names_every_command(cli):
    """`--help` lists every command with a sentence on it."""
    text = cli("--help").out

    for command in ("convert", "train", "predict", "submission", "sheet"):
        assert command in text


def test_help_lists_models_and_presets(cli):
    """The choices of `train` are those of the registry."""
    text = " ".join(cli("train", "--help").out.replace("│", " ").split())

    assert ", ".join(kinds()) in text
    for name in {preset for kind in kinds().values() for preset in kind.presets} | {"origin"}:
        assert name in text


def test_version(cli):
    """`--version` prints the package's version."""
    done = cli("--version")

    assert (done.code, done.out) == (0, f"mnist_core {__version__}\n")


@pytest.mark.parametrize("command", ["convert", "sheet"])
def test_pictures_need_no_torch(command, files, tmp_path):
    """Converting and drawing start fast: torch is not imported."""
    script = (
        "import json, sys\nfrom mnist_core.__main__ import main\n"
        "try: main()\nfinally: print(json.dumps([m for m in ('torch', 'fastai') if m in sys.modules]))"
    )
    out = tmp_path / ("out.png" if command == "sheet" else "out")

    process = subprocess.run(
        [sys.executable, "-c", script, command, str(files / "test.csv"), str(out)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert process.stdout.strip() == "[]"
