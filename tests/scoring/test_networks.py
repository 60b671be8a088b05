"""LPIPS with the shipped weights, and FID's statistics, distance and cache."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file
from tiny import INCEPTION, save_inception
from torch.nn import functional as F

from defusion_cli.errors import DataError, DefusionError, UsageError
from defusion_cli.images import Picture, read_pixels, write_image
from defusion_cli.scoring import engine
from defusion_cli.scoring.fid import Inception, Statistics, frechet_distance, small_sample_warning
from defusion_cli.scoring.metrics import find_metrics
from defusion_cli.scoring.pairs import Pair
from defusion_cli.scoring.perceptual import lpips_network
from defusion_cli.scoring.protocols import GENERAL
from defusion_cli.scoring.sets import prepare, score_set


def lpips_by_the_book(a: torch.Tensor, b: torch.Tensor) -> float:
    """Equation 1 of Zhang et al., CVPR 2018, in double precision, layer by layer of torchvision's AlexNet."""
    weights = {name: tensor.double() for name, tensor in load_file(engine.LPIPS_ALEX).items()}
    features = torchvision.models.AlexNet().features.double().eval()
    features.load_state_dict({n.removeprefix("features."): w for n, w in weights.items() if n.startswith("features.")})
    shift, scale = (torch.tensor(v).double().view(3, 1, 1) for v in ([-0.03, -0.088, -0.188], [0.458, 0.448, 0.45]))
    x, y = ((2 * image.double()[None] - 1 - shift) / scale for image in (a, b))
    distance, head = 0.0, 0
    for layer in features:
        x, y = layer(x), layer(y)
        if isinstance(layer, torch.nn.ReLU):
            unit_x, unit_y = (z / (z.norm(dim=1, keepdim=True) + 1e-10) for z in (x, y))
            distance += F.conv2d((unit_x - unit_y) ** 2, weights[f"lin{head}.weight"]).mean().item()
            head += 1
    assert head == 5
    return distance


@pytest.fixture
def lpips():
    return engine.make_metric("lpips", "cpu")


def test_lpips_needs_no_network_and_keeps_to_its_definition(lpips, photo, rng, capfd):
    noisy = np.clip(photo + rng.normal(0, 0.1, photo.shape), 0, 1).astype(np.float32)
    blurred = (photo + np.roll(photo, 2, 0) + np.roll(photo, 2, 1)) / 3
    expected = [
        lpips_by_the_book(*(torch.from_numpy(image).permute(2, 0, 1) for image in (worse, photo)))
        for worse in (noisy, blurred)
    ]
    assert engine.run_metric(lpips, [noisy, blurred], [photo, photo]) == pytest.approx(expected, abs=1e-5)
    assert all(0.02 < value < 1.5 for value in expected)
    assert engine.run_metric(lpips, [photo], [photo]) == pytest.approx([0], abs=1e-7)
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore::UserWarning:torchvision")
def test_lpips_is_that_of_the_lpips_package(lpips, photo, rng):
    """The package's code and linear heads, with the backbone that we ship: its own would come from the network."""
    from lpips import LPIPS

    theirs = LPIPS(net="alex", pnet_rand=True, verbose=False)
    shipped = load_file(engine.LPIPS_ALEX)
    for name, tensor in theirs.net.state_dict().items():
        tensor.copy_(shipped[f"features.{name.split('.', 1)[1]}"])
    for number, head in enumerate(theirs.lins):
        assert torch.equal(head.model[1].weight, shipped[f"lin{number}.weight"]), "the heads of version 0.1"
    worse = [np.clip(photo + rng.normal(0, sigma, photo.shape), 0, 1).astype(np.float32) for sigma in (0.02, 0.1, 0.3)]
    worse += [np.roll(photo, 3, axis=1), np.zeros_like(photo), photo]
    tensors = [torch.from_numpy(image).permute(2, 0, 1)[None] for image in (*worse, photo)]
    with torch.no_grad():
        expected = [theirs(tensor, tensors[-1], normalize=True).item() for tensor in tensors[:-1]]
    assert engine.run_metric(lpips, worse, [photo] * len(worse)) == pytest.approx(expected, abs=1e-5)
    assert expected[2] > 0.3


def test_lpips_grows_with_damage(lpips, photo, rng):
    noise = rng.normal(0, 1, photo.shape)
    worse = [np.clip(photo + sigma * noise, 0, 1).astype(np.float32) for sigma in (0.02, 0.05, 0.1, 0.2)]
    values = engine.run_metric(lpips, worse, [photo] * 4)
    assert values == sorted(values) and values[-1] > 4 * values[0]


def test_making_lpips_leaves_pyiqa_as_it_was(lpips):
    from pyiqa.archs import lpips_arch

    assert lpips_arch.models is torchvision.models
    assert all(tensor.device.type == "cpu" and tensor.isfinite().all() for tensor in lpips.net.state_dict().values())


def test_other_metrics_go_by_pyiqas_names(photo):
    metric = engine.make_metric("gmsd", "cpu")
    same, other = engine.run_metric(metric, [photo, photo[::-1].copy()], [photo, photo])
    assert same == pytest.approx(0, abs=1e-4) and other > 0.05


def test_weights_that_are_not_there(tmp_path, monkeypatch):
    from pyiqa.utils import download_util

    def no_network(url: str, target: str, **_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(download_util, "DEFAULT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(download_util, "download_url_to_file", no_network)
    with pytest.raises(DefusionError) as caught:
        Inception("clean", "cpu")
    text = str(caught.value)
    assert INCEPTION in text and "https://" in text and str(tmp_path / "cache") in text
    assert "no route to host" in text and caught.value.exit_code == 1


@pytest.mark.parametrize(("metric", "package"), [("topiq_fr", "facexlib"), ("clipiqa", "clip")])
def test_packages_that_are_not_there(metric, package):
    """pyiqa says of the first that it has never heard of the network."""
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(UsageError, match=f"needs the package {package}") as caught:
        engine.make_metric(metric, "cpu")
    assert "pip install --no-deps" in str(caught.value)


def test_devices_that_are_not_there():
    for name in ("gpu", "cuda:99"):
        with pytest.raises(UsageError, match="cannot be used"):
            engine.pick_device(name)
    assert engine.pick_device("cpu") == "cpu"


def statistics(rng, count, size=24, offset=0.0):
    features = rng.normal(offset, 1, (count, size)) @ rng.normal(0, 1, (size, size))
    return Statistics(features.mean(0), np.cov(features, rowvar=False), count)


def test_the_distance_is_frechets(rng):
    a, b = statistics(rng, 200), statistics(rng, 300, offset=0.3)
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance).real
    offset = a.mean - b.mean
    expected = offset @ offset + np.trace(a.covariance + b.covariance - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-8)


def test_the_distance_of_few_pictures(rng):
    """Singular covariances: the trace of the root is the nuclear norm of the product of the two centred matrices."""
    x, y = rng.normal(0, 1, (5, 64)), rng.normal(0.5, 1, (7, 64))
    a, b = (Statistics(z.mean(0), np.cov(z, rowvar=False), len(z)) for z in (x, y))
    product = (x - x.mean(0)) @ (y - y.mean(0)).T / np.sqrt((len(x) - 1) * (len(y) - 1))
    offset = a.mean - b.mean
    expected = offset @ offset + np.trace(a.covariance + b.covariance) - 2 * np.linalg.norm(product, "nuc")
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_the_distance_does_without_scipys_root(rng, monkeypatch):
    """SciPy 1.18 takes the argument ``disp`` away, with which FID tools call it."""

    def gone(*_: object, **__: object) -> None:
        raise TypeError("sqrtm() got an unexpected keyword argument 'disp'")

    monkeypatch.setattr(scipy.linalg, "sqrtm", gone)
    assert frechet_distance(statistics(rng, 50), statistics(rng, 50, offset=1)) > 0


def test_pyiqas_own_distance_works_without_the_argument(rng, monkeypatch):
    """pyiqa computes ``sfid`` and its like itself, with ``disp=False``."""
    from pyiqa.archs.fid_arch import frechet_distance as pyiqas

    root = scipy.linalg.sqrtm
    a, b = statistics(rng, 60), statistics(rng, 60, offset=0.5)

    def of_scipy_1_18(A):
        return root(A)

    monkeypatch.setattr(scipy.linalg, "sqrtm", of_scipy_1_18)
    moments = a.mean, a.covariance, b.mean, b.covariance
    with pytest.raises(TypeError, match="disp"):
        pyiqas(*moments)
    with engine.old_sqrtm():
        assert pyiqas(*moments) == pytest.approx(frechet_distance(a, b), rel=1e-9)
    assert scipy.linalg.sqrtm is of_scipy_1_18


def test_few_pictures_are_warned_of():
    assert small_sample_warning(2048) is None
    warning = small_sample_warning(76)
    assert warning is not None and "N = 76" in warning and "biased upwards" in warning


@pytest.fixture(scope="module")
def inception_home(tmp_path_factory):
    """A folder with weights for Inception made here."""
    folder = tmp_path_factory.mktemp("pyiqa")
    save_inception(folder)
    return folder


@pytest.fixture
def inception_weights(inception_home, tmp_path, monkeypatch):
    from pyiqa.utils import download_util

    monkeypatch.setattr(download_util, "DEFAULT_CACHE_DIR", str(inception_home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def pictures(tmp_path, photo):
    files = [tmp_path / "in" / f"{index}.png" for index in range(3)]
    for index, file in enumerate(files):
        write_image(file, np.roll(photo, 30 * index, axis=1)[: 128 - 16 * index])
    return files


def test_features_and_statistics_are_pyiqas(inception_weights, pictures):
    from pyiqa.archs.fid_arch import get_folder_features

    for mode in ("clean", "legacy_pytorch"):
        inception = Inception(mode, "cpu")
        ours = inception.statistics(pictures, False, lambda: None)
        theirs = get_folder_features(
            str(pictures[0].parent), inception._network, 0, 3, mode=mode, verbose=False, device=torch.device("cpu")
        )
        assert ours.mean == pytest.approx(theirs.mean(0), rel=1e-4, abs=1e-6)
        scale = np.abs(ours.covariance).max()
        assert np.abs(ours.covariance - np.cov(theirs, rowvar=False)).max() < 1e-3 * scale


def test_statistics_are_cached_by_content(inception_weights, pictures, tmp_path):
    inception, cache = Inception("clean", "cpu"), tmp_path / "cache" / "defusion" / "fid"
    first = inception.statistics(pictures, True, lambda: None)
    (stored,) = cache.glob("*.npz")
    written = stored.stat().st_mtime_ns
    moved = [file.rename(file.with_name(f"moved-{2 - index}.png")) for index, file in enumerate(pictures)]
    seen: list[int] = []
    again = inception.statistics(sorted(moved), True, lambda: seen.append(1))
    assert np.array_equal(again.covariance, first.covariance) and len(seen) == 3
    assert [file.stat().st_mtime_ns for file in cache.glob("*.npz")] == [written]
    stored.write_bytes(b"cut short")
    assert inception.statistics(moved[::-1], True, lambda: None).mean == pytest.approx(first.mean, rel=1e-4, abs=1e-6)
    os.remove(moved[0])
    inception.statistics(moved[1:], True, lambda: None)
    assert len(list(cache.glob("*.npz"))) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:UserWarning", "ignore:Matrix is singular")
def test_the_command_gives_the_fid_of_pytorch_fid_and_of_pyiqa(inception_home, inception_weights, tmp_path, photo, rng):
    """One set of weights, three programs, from files to the distance.

    Features agree to the precision of single floats. What is left of the difference is theirs: the general matrix root
    of a singular product, which `frechet_distance` avoids; on equal features ours is exact (see above).
    """
    import pyiqa
    from pytorch_fid.fid_score import calculate_frechet_distance, get_activations
    from pytorch_fid.inception import InceptionV3

    for index in range(6):
        clean = np.roll(photo, 25 * index, axis=1)
        write_image(tmp_path / f"ref/{index}.png", clean)
        write_image(tmp_path / f"out/{index}.png", np.clip(clean + rng.normal(0, 0.1, clean.shape), 0, 1))
    folders = [tmp_path / "out", tmp_path / "ref"]
    home = tmp_path / "torch"
    for name in ("pyiqa", "checkpoints"):
        (home / "hub" / name).mkdir(parents=True)
        (home / "hub" / name / INCEPTION).symlink_to(inception_home / INCEPTION)
    command = [
        sys.executable,
        "-m",
        "defusion_cli",
        "score",
        "--metrics",
        "fid-legacy,fid",
        "--json",
        *map(str, folders),
    ]
    done = subprocess.run(command, env={**os.environ, "TORCH_HOME": str(home)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("N = 6 pictures is biased upwards") == 1
    assert len(list((tmp_path / "cache/defusion/fid").glob("*.npz"))) == 2, "the references', once for each mode"
    figures = json.loads(done.stdout)["metrics"]
    ours = figures["fid-legacy"]["mean"]
    assert (figures["fid-legacy"]["n"], figures["fid-legacy"]["mode"]) == (6, "legacy_pytorch")

    torch.hub.set_dir(str(home / "hub"))
    network = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[2048]])
    features = [get_activations(sorted(folder.iterdir()), network, 6, 2048, "cpu", 0) for folder in folders]
    moments = [Statistics(f.mean(axis=0), np.cov(f, rowvar=False), len(f)) for f in features]
    assert ours == pytest.approx(frechet_distance(*moments), rel=1e-6)
    theirs = calculate_frechet_distance(moments[0].mean, moments[0].covariance, moments[1].mean, moments[1].covariance)
    assert ours == pytest.approx(theirs, rel=1e-5)
    metric = pyiqa.create_metric("fid", device=torch.device("cpu"))
    options = {"mode": "legacy_pytorch", "num_workers": 0, "verbose": False}
    assert ours == pytest.approx(float(metric(*map(str, folders), **options)), rel=1e-5)


def test_a_training_loss_without_its_weights_says_what_to_fetch(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, *_, **__: (_ for _ in ()).throw(OSError("no")))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    with pytest.raises(DefusionError, match="lpips-vgg needs the file vgg16") as caught:
        lpips_network(torch.device("cpu"), "lpips-vgg")
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("mode", ["clean", "legacy_pytorch", "legacy_tensorflow"])
def test_pictures_of_fid_are_read_as_for_other_metrics(inception_weights, pictures, tmp_path, mode):
    """Sixteen bits, grey, turned by a camera, or larger by design: the same picture has the same features."""
    inception = Inception(mode, "cpu")
    same = [tmp_path / "same" / file.name for file in pictures]
    plain, deep, turned = (read_pixels(file) for file in pictures)
    grey = np.ascontiguousarray(np.repeat(plain[..., :1], 3, axis=2))
    write_image(pictures[0], grey)
    write_image(same[0], grey, Picture(grey, bits=16, grey=True))
    write_image(same[1], np.pad(deep, ((5, 5), (7, 7), (0, 0))))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(np.rot90(np.rint(turned * 255).astype(np.uint8))).save(same[2], exif=exif)
    wanted = inception.statistics(pictures, False, lambda: None)
    found = inception.statistics(same, True, lambda: None, {str(same[1]): str(pictures[1])})
    assert np.array_equal(found.mean, wanted.mean) and np.array_equal(found.covariance, wanted.covariance)
    assert not (tmp_path / "cache").exists(), "what is cut depends on another picture"


def test_references_larger_by_design_are_cut_for_sets_too(inception_weights, photo, tmp_path):
    pairs = []
    for index in range(2):
        out, ref = tmp_path / f"out/{index}.png", tmp_path / f"ref/{index}.png"
        write_image(ref, photo)
        write_image(out, np.ascontiguousarray(photo[10 * index + 1 : -10 * index - 1, 9:-9]))
        pairs.append(Pair(out.name, out, ref))
    protocol = GENERAL["rgb"].with_larger_references()
    (metric,) = find_metrics("fid", protocol, True)
    assert "about its centre" in metric.definition
    scorer = prepare(metric, "cpu")
    assert score_set(pairs, scorer, lambda: None, protocol.crop)[0] == pytest.approx(0, abs=1e-4)


def test_fid_of_one_picture_and_of_a_broken_one(inception_weights, pictures):
    inception = Inception("clean", "cpu")
    with pytest.raises(DataError, match="at least two"):
        inception.statistics(pictures[:1], False, lambda: None)
    pictures[1].write_bytes(b"not a picture")
    with pytest.raises(DataError, match="is not a picture"):
        inception.statistics(pictures, False, lambda: None)
