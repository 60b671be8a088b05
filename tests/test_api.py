"""The commands as functions: what comes in is what comes out, and it is what the commands do."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import save_tiny_model

import defusion_cli
from defusion_cli import DefusionPipeline, degrade, make_ground, restore, score
from defusion_cli.errors import DataError, UsageError
from defusion_cli.images import Picture, read_pixels, write_image

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["defusion_cli.api", "defusion_cli.diffusion.pipeline"])
def test_the_examples_in_the_docstrings(name):
    module = sys.modules.get(name) or __import__(name, fromlist=["_"])
    failed, tried = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)
    assert tried >= 3 and failed == 0


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, defusion_cli, defusion_cli.api; from defusion_cli import degrade, make_ground, restore, score;"
        "print(sorted({'torch', 'diffusers', 'rich', 'typer'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("first", ["import defusion_cli.restore.plan, defusion_cli.degrade.plan;", ""])
def test_the_packages_of_the_same_name_do_not_get_in_the_way(first):
    code = (
        f"{first}from defusion_cli import degrade, restore; from defusion_cli.restore.tiling import cut_tiles;"
        "import defusion_cli.restore.plan as plan; print(callable(restore), callable(degrade), bool(plan.plan_jobs))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True True True\n"


def test_every_public_name_is_there_and_documented():
    for name in defusion_cli.__all__:
        assert getattr(defusion_cli, name) is not None
        assert name in dir(defusion_cli)
    assert list(inspect.signature(restore).parameters)[:2] == ["picture", "degradation"]
    with pytest.raises(AttributeError, match="no attribute 'restor'"):
        defusion_cli.restor  # noqa: B018
    for function in (degrade, make_ground, restore, score):
        target = getattr(sys.modules["defusion_cli.api"], getattr(function, "__name__").rpartition(".")[2])  # noqa: B009
        assert "Parameters" in target.__doc__ and "Raises" in target.__doc__


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """Folder of a tiny model."""
    return str(save_tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture
def pictures(tmp_path, photo):
    """One picture as array, PIL image and path."""
    write_image(tmp_path / "a.png", photo)
    with Image.open(tmp_path / "a.png") as image:
        return read_pixels(tmp_path / "a.png"), image.convert("RGB"), tmp_path / "a.png"


def test_arrays_give_arrays_and_everything_else_pil(pictures, tiny_model):
    array, image, path = pictures
    for function in (lambda p: degrade(p, "rain", 0.5, seed=3), lambda p: restore(p, "rain", model=tiny_model)):
        made = [function(picture) for picture in (array, image, path, str(path))]
        assert made[0].dtype == np.float32 and made[0].shape == array.shape
        assert all(isinstance(one, Image.Image) for one in made[1:])
        assert all(np.array_equal(np.asarray(one), np.rint(made[0] * 255).astype(np.uint8)) for one in made[1:])
        assert not np.array_equal(made[0], array)


def test_restore_is_what_the_command_does(pictures, tiny_model, tmp_path):
    array, _, path = pictures
    command = [sys.executable, "-m", "defusion_cli", "restore", str(path), str(tmp_path / "out.png")]
    subprocess.run([*command, "--degradation", "rain", "--model", tiny_model], check=True, capture_output=True)
    made = restore(array, "rain", model=tiny_model)
    # The command works on the 8-bit samples of the file, and writes such.
    assert np.abs(made - read_pixels(tmp_path / "out.png")).max() <= 2 / 255


def test_parameters_can_be_forced():
    grey = np.full((64, 64, 3), 0.5, np.float32)
    forced = {"kind": "gaussian", "sigma": 25.5}
    strong = degrade(grey, ["noise"], 0.1, params={"noise": forced})
    assert np.std(strong) == pytest.approx(0.1, rel=0.05)
    with pytest.raises(UsageError):
        degrade(grey, "noise", params={"noise": {"sigma": 99999}})


def test_grounds(photo):
    ground = make_ground(["rain", "noise"], 0.5, size=96, seed=2)
    assert np.array_equal(ground.instruction, ground.degraded - ground.ground)
    assert ground.recipe.ids == ("rain", "noise")


def test_scores_of_pictures_and_folders(pictures, tmp_path, photo):
    array, image, _ = pictures
    write_image(tmp_path / "in/a.png", photo * 0.9)
    write_image(tmp_path / "in/b.png", photo * 0.8)
    write_image(tmp_path / "gt/a.png", photo)
    write_image(tmp_path / "gt/b.png", photo)
    each = [score(tmp_path / f"in/{name}.png", tmp_path / f"gt/{name}.png") for name in "ab"]
    both = score(tmp_path / "in", tmp_path / "gt")
    assert list(both) == ["psnr", "ssim"]
    assert both["psnr"] == pytest.approx((each[0]["psnr"] + each[1]["psnr"]) / 2)
    assert score(image, array, "mae")["mae"] == 0
    perceived = score(tmp_path / "in/b.png", str(tmp_path / "gt/b.png"), ["psnr", "lpips"])
    assert list(perceived) == ["psnr", "lpips"] and perceived["psnr"] == each[1]["psnr"] and perceived["lpips"] > 0
    with pytest.raises(DataError, match="differ in size"):
        score(array[:-1], array)
    with pytest.raises(UsageError, match="needs files"):
        score(array, array, "lpips")
    for one, other in ((tmp_path / "in", tmp_path / "gt/a.png"), (tmp_path / "in/a.png", str(tmp_path / "gt"))):
        with pytest.raises(UsageError, match="is a folder"):
            score(one, other)
    with pytest.raises(UsageError, match="is a folder"):
        score(tmp_path / "in", image)
    (tmp_path / "gt/b.png").rename(tmp_path / "gt/c.png")
    with pytest.raises(DataError, match=r"(?s)Not every picture has a partner.*b\.png"):
        score(tmp_path / "in", tmp_path / "gt")


def test_grey_images_of_sixteen_bits_are_not_white(tmp_path, photo):
    grey = photo[..., :1].repeat(3, axis=2)
    write_image(tmp_path / "deep.png", grey, Picture(grey, bits=16, grey=True))
    with Image.open(tmp_path / "deep.png") as image:
        assert image.mode.startswith("I")
        assert score(image, tmp_path / "deep.png", "mae")["mae"] < 1e-6
        assert np.abs(np.asarray(degrade(image, "noise", severity=0)) / 255 - grey).max() < 0.1
        with pytest.raises(UsageError, match="not a picture"):
            score(image.convert("F"), image)


def test_mistakes_are_told(photo, tiny_model):
    with pytest.raises(UsageError, match="not a picture"):
        degrade((photo * 255).astype(np.uint8), "rain")
    with pytest.raises(UsageError, match="more than one way"):
        restore(photo, "rain", example=(photo, photo), model=tiny_model)
    with pytest.raises(UsageError) as error:
        restore(photo, "rian", model=tiny_model)
    assert error.value.fix == "did you mean rain?"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("severity", 1.5), ("severity", -0.1), ("severity", float("nan")), ("severity", "0.5"),
        ("seed", -1), ("seed", 1.5), ("seed", "1"),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_told(photo, name, value):
    for function in (lambda **options: degrade(photo, "noise", **options), make_ground):
        with pytest.raises(UsageError, match=f"{name} is ") as error:
            function(**{name: value})
        assert error.value.found and error.value.accepted.startswith("0 ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0), ("steps", 51), ("steps", 1.5), ("steps", True), ("seed", -1), ("seed", 2**32), ("seed", 0.5),
        ("tile", 127), ("tile", 20000), ("tile", 200.0),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_told_before_a_model_is_loaded(photo, name, value):
    with pytest.raises(UsageError, match=f"{name} is ") as error:
        restore(photo, "rain", model="no/such/model", **{name: value})
    assert error.value.found and "…" in error.value.accepted


def test_numbers_of_numpy_are_numbers(photo):
    made = degrade(photo, "noise", np.float32(0.5), seed=np.int64(3))
    np.testing.assert_array_equal(made, degrade(photo, "noise", 0.5, seed=3))
    with pytest.raises(UsageError, match="size is not a whole number"):
        make_ground(size=64.5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_arrays_that_are_not_finite_are_refused(photo, value):
    spoilt = photo.copy()
    spoilt[1, 2, 0] = value
    for use in (
        lambda: degrade(spoilt, "noise"),
        lambda: restore(spoilt, "rain", model="no/such/model"),
        lambda: restore(photo, example=(photo, spoilt), model="no/such/model"),
        lambda: score(spoilt, photo),
        lambda: score(photo, spoilt),
    ):
        with pytest.raises(DataError, match="not a picture") as error:
            use()
        assert error.value.found == f"1 of {photo.size} values not finite" and error.value.accepted


def test_values_up_to_255_are_told_from_values_up_to_1(photo):
    for use in (
        lambda: degrade(photo * 255, "noise"),
        lambda: score(photo, photo * 255),
        lambda: score(photo - 9, photo),
    ):
        with pytest.raises(DataError, match="not a picture") as error:
            use()
        assert "values from" in error.value.found and "/ 255" in error.value.fix
    assert score(photo * 1.5 - 0.25, photo)["psnr"] > 5


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (5, 5, 4), (5, 5)])
def test_arrays_without_pixels_or_colours_are_refused(shape):
    empty = np.zeros(shape, np.float32)
    for use in (degrade, lambda one, name: restore(one, name, model="no/such/model"), lambda one, _: score(one, one)):
        with pytest.raises(UsageError, match="not a picture") as error:
            use(empty, "rain")
        assert str(shape) in error.value.found and error.value.fix is None


def test_a_picture_without_pixels_is_refused():
    with pytest.raises(UsageError, match="not a picture"):
        degrade(Image.new("RGB", (0, 5)), "rain")


@pytest.mark.parametrize(
    ("image", "options", "sentence"),
    [
        (np.zeros((8, 8), np.float32), {}, r"an array float32 \(8, 8\); accepted is"),
        (np.zeros((3, 8, 8), np.float32), {}, "H×W×3"),
        (np.zeros((0, 8, 3), np.float32), {}, "H×W×3"),
        (np.zeros((8, 8, 3), np.uint8), {}, "floating point"),
        (torch.zeros(3, 8, 8), {}, "N×3×H×W"),
        ("photo.png", {}, "The image is str"),
        (np.zeros((8, 8, 3), np.float32), {"num_inference_steps": 0}, "num_inference_steps is 0; accepted are 1 to"),
        (np.zeros((8, 8, 3), np.float32), {"num_inference_steps": 1001}, "1 to 1000"),
        (np.zeros((8, 8, 3), np.float32), {"num_inference_steps": 1.5}, "1 to 1000"),
        (np.zeros((8, 8, 3), np.float32), {"output_type": "numpy"}, "output_type is 'numpy'; accepted are pil, np, pt"),
    ],
)
def test_the_pipeline_says_what_it_does_not_accept(tiny_model, image, options, sentence):
    pipeline = DefusionPipeline.from_pretrained(tiny_model)
    with pytest.raises(ValueError, match=sentence):
        pipeline(image, "rain", **options)


def test_the_pipeline_loads_in_a_fresh_process_without_complaints():
    code = "from defusion_cli import DefusionPipeline as P; print(P.from_pretrained('default').config.together)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0 and run.stdout.startswith("[["), run.stderr
    assert "type annotation" not in run.stderr and "Expected types" not in run.stderr


def test_the_pipeline_as_diffusers_users_know_it(photo, tiny_model, tmp_path):
    pipeline = DefusionPipeline.from_pretrained(tiny_model).to("cpu")
    tensor = torch.from_numpy(photo).permute(2, 0, 1)[None]
    by_name = pipeline(tensor, "rain", generator=torch.Generator().manual_seed(1), output_type="np").images[0]
    pipeline.save_pretrained(tmp_path / "copy")
    again = DefusionPipeline.from_pretrained(tmp_path / "copy")
    image = Image.fromarray(np.rint(photo * 255).astype(np.uint8))
    made = again(image, ["rain"], generator=torch.Generator().manual_seed(1)).images[0]
    assert np.abs(np.asarray(made) / 255 - by_name).max() < 0.02
    assert pipeline(tensor, ["rain", "noise"], output_type="pt").images.shape == tensor.shape
