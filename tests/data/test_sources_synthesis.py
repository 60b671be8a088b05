"""Training samples: what is drawn, what the target keeps, and that everything follows from the seed."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
import torch

from defusion_cli.data.loader import view_batches
from defusion_cli.data.sources import PhotoSource, draw_photo, parse_source
from defusion_cli.data.synthesis import SynthesisConfig, ViewMaker, draw_task
from defusion_cli.errors import DataError, UsageError
from defusion_cli.plugins import installed_plugins

IDS = ("haze", "jpeg", "noise", "rain", "snow")
PLUGINS = installed_plugins()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    photo = cv2.imread(str(Path(skimage.data_dir) / "astronaut.png"))
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), photo[90 * number : 90 * number + 160, 100:300])
    return folder


@pytest.fixture(scope="module")
def pairs(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "clean").mkdir()
    (folder / "degraded").mkdir()
    for path in photos.iterdir():
        image = cv2.imread(str(path))
        cv2.imwrite(str(folder / "clean" / path.name), image)
        cv2.imwrite(str(folder / "degraded" / f"{path.stem}.bmp"), image // 2)
    return folder


def test_the_instruction_shows_damage_subsets_absent_damage_or_nothing():
    config = SynthesisConfig(mixture_share=0.5)
    rng = np.random.default_rng(0)
    tasks = [draw_task(IDS, config, PLUGINS, rng) for _ in range(4000)]
    blind = [t for t in tasks if not t.shown]
    absent = [t for t in tasks if t.shown and not t.removed]
    partial = [t for t in tasks if t.removed and set(t.removed) < set(t.damage)]
    assert len(blind) / len(tasks) == pytest.approx(config.blind_share, abs=0.02)
    assert len(absent) / len(tasks) == pytest.approx(config.absent_share, abs=0.02)
    # Of the mixtures that are neither blind nor absent, `subset_share` show a part only.
    rest = 1 - config.blind_share - config.absent_share
    assert len(partial) / len(tasks) == pytest.approx(0.5 * rest * config.subset_share, abs=0.03)
    assert all(set(t.removed) == set(t.damage) for t in blind)
    assert all(not set(t.shown) & set(t.damage) for t in absent)
    assert all(set(t.shown) == set(t.removed) for t in tasks if t.shown and t.removed)
    assert {t.damage for t in tasks if len(t.damage) == 2} >= {("rain", "snow"), ("snow", "rain")}


def test_a_plain_beginning_has_no_mixtures_and_hides_nothing():
    config, rng = SynthesisConfig(mixture_share=1.0).plain(), np.random.default_rng(0)
    tasks = [draw_task(IDS, config, PLUGINS, rng) for _ in range(200)]
    assert all(len(task.damage) == 1 and task.shown == task.removed == task.damage for task in tasks)


def test_emphasis_draws_a_degradation_more_often():
    config, rng = SynthesisConfig(mixture_share=0.0, emphasis={"noise": 4.0}), np.random.default_rng(0)
    share = np.mean([draw_task(IDS, config, PLUGINS, rng).damage == ("noise",) for _ in range(4000)])
    assert share == pytest.approx(4 / 8, abs=0.03)
    nothing_else = SynthesisConfig(mixture_share=1.0, emphasis={i: 0.0 for i in IDS if i != "rain"})
    assert {draw_task(IDS, nothing_else, PLUGINS, rng).damage for _ in range(50)} == {("rain",)}


def test_familiar_mixtures_are_drawn_whole_and_shown_whole():
    config, rng = SynthesisConfig(familiar_mixtures={"rain+snow": 0.3, "snow+moss": 0.3}), np.random.default_rng(0)
    tasks = [draw_task(IDS, config, PLUGINS, rng) for _ in range(2000)]
    whole = [task for task in tasks if set(task.damage) == {"rain", "snow"} == set(task.removed)]
    assert 0.3 < len(whole) / len(tasks) < 0.36  # some of the other mixtures are the same
    assert {task.damage for task in whole} == {("rain", "snow"), ("snow", "rain")}
    assert {task.shown for task in whole} >= {("snow", "rain")}
    assert not any("moss" in task.damage for task in tasks) and any(len(task.damage) == 1 for task in tasks)
    assert config.familiar == [("rain", "snow"), ("snow", "moss")] and not config.plain().familiar


@pytest.mark.parametrize(
    "mixtures",
    [
        {"rain": 0.1},
        {"rain+rain": 0.1},
        {"rain+snow": 1.1},
        {"rain+snow": 0.6, "snow+jpeg": 0.6},
        {"rain+snow": -0.1},
        {"rain+snow": "much"},
    ],
)
def test_familiar_mixtures_that_are_none_are_refused(mixtures):
    with pytest.raises(UsageError, match="familiar"):
        SynthesisConfig(familiar_mixtures=mixtures)


def test_the_plain_beginning_reaches_the_loader(photos):
    maker = ViewMaker([parse_source(str(photos))], IDS, PLUGINS, SynthesisConfig(view_px=64, blind_share=1.0))
    batches = list(
        view_batches(
            maker,
            0,
            range(2),
            lambda _: 32,
            lambda _: slice(0, 3),
            config_at=lambda step: maker.config.plain() if step == 0 else maker.config,
        )
    )
    assert all(batches[0].shown) and not any(batches[1].shown)


def test_a_view_can_be_turned(photos):
    photo = draw_photo([parse_source(str(photos))], np.random.default_rng(0))
    upright, turned = (
        ViewMaker([parse_source(str(photos))], IDS, PLUGINS, SynthesisConfig(view_px=96, turned_share=share))
        for share in (0.0, 1.0)
    )
    seen = set()
    for seed in range(8):
        view, other = (maker._clean_view(photo, np.random.default_rng(seed), 32) for maker in (upright, turned))
        (quarter,) = (k for k in (1, 3) if np.array_equal(np.rot90(view, k), other))
        seen.add(quarter)
    assert seen == {1, 3}


def test_a_view_follows_from_its_seed_and_has_the_promised_form(photos):
    maker = ViewMaker([parse_source(str(photos))], IDS, PLUGINS, SynthesisConfig(view_px=96, crops_per_view=3))
    one, two, other = (maker.draw(np.random.default_rng(seed), 48) for seed in (5, 5, 6))
    assert torch.equal(one.lq, two.lq) and torch.equal(one.target, two.target)
    assert not torch.equal(one.lq, other.lq)
    assert one.lq.shape == one.target.shape == (3, 3, 48, 48)
    assert one.cells.shape == (9, 64, 64) and one.coarse.shape == (3, 64, 64)
    for tensor in (one.lq, one.target, one.cells):
        assert tensor.dtype == torch.float32 and tensor.min() >= 0 and tensor.max() <= 1


def test_absent_damage_asks_for_nothing_and_blind_for_everything(photos):
    source = [parse_source(str(photos))]
    absent = ViewMaker(source, IDS, PLUGINS, SynthesisConfig(view_px=96, absent_share=1.0, blind_share=0.0))
    for seed in range(5):
        view = absent.draw(np.random.default_rng(seed), 48)
        assert view.shown and torch.equal(view.lq, view.target)
    blind = ViewMaker(source, ("noise",), PLUGINS, SynthesisConfig(view_px=96, blind_share=1.0))
    view = blind.draw(np.random.default_rng(0), 48)
    assert view.shown == () and not torch.equal(view.lq, view.target)


def test_the_target_of_a_subset_keeps_the_very_same_rest(photos):
    """With noise applied last and only rain shown, input minus target holds no noise: it is the rain alone."""
    config = SynthesisConfig(view_px=96, mixture_share=1.0, subset_share=1.0, absent_share=0.0, blind_share=0.0)
    maker = ViewMaker([parse_source(str(photos))], ("noise", "snow"), PLUGINS, config)
    shares = []
    for seed in range(40):
        view = maker.draw(np.random.default_rng(seed), 64)
        if view.shown == ("snow",):
            shares.append(float(((view.lq - view.target).abs() < 1e-3).float().mean()))
    assert len(shares) > 5
    assert max(shares) > 0.2  # between the flakes nothing changes, although both pictures are noisy


def test_pairs_are_cut_alike_and_named_after_their_degradation(pairs):
    maker = ViewMaker([parse_source(f"rain={pairs}")], IDS, PLUGINS, SynthesisConfig(view_px=96, blind_share=0.0))
    view = maker.draw(np.random.default_rng(1), 64)
    assert view.shown == ("rain",)
    assert torch.allclose(view.lq, view.target / 2, atol=1 / 255)


def test_sources_are_drawn_by_weight(photos, pairs):
    sources = [parse_source(f"{photos}:3"), parse_source(f"rain={pairs}:1")]
    assert [source.weight for source in sources] == [3, 1]
    rng = np.random.default_rng(0)
    real = np.mean([draw_photo(sources, rng).damaged is not None for _ in range(2000)])
    assert real == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("text", ["{photos}:0", "{photos}:-1", "{photos}:inf"])
def test_weights_must_be_above_zero(photos, text):
    with pytest.raises(UsageError, match="weight"):
        parse_source(text.format(photos=photos))


def test_orphans_are_named(pairs, tmp_path):
    (tmp_path / "clean").mkdir()
    (tmp_path / "degraded").mkdir()
    cv2.imwrite(str(tmp_path / "degraded" / "lonely.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match=r"no clean twin") as error:
        parse_source(f"rain={tmp_path}")
    assert "lonely.png" in str(error.value)


def test_pairs_of_unequal_size_are_refused(pairs, tmp_path):
    for side, size in (("clean", 80), ("degraded", 90)):
        (tmp_path / side).mkdir()
        cv2.imwrite(str(tmp_path / side / "a.png"), np.zeros((size, size, 3), np.uint8))
    source = parse_source(f"rain={tmp_path}")
    assert isinstance(source, PhotoSource)
    with pytest.raises(DataError, match="differ in size"):
        ViewMaker([source], IDS, PLUGINS, SynthesisConfig()).draw(np.random.default_rng(0), 32)


def test_two_ranks_and_workers_together_see_the_samples_of_one(photos):
    maker = ViewMaker([parse_source(str(photos))], ("noise",), PLUGINS, SynthesisConfig(view_px=64, crops_per_view=2))

    def crop(_: int) -> int:
        return 32

    def batches(share: slice, steps: range) -> list[torch.Tensor]:
        return [batch.lq for batch in view_batches(maker, 7, steps, crop, lambda _: share)]

    whole = batches(slice(0, 4), range(3))
    halves = zip(batches(slice(0, 2), range(3)), batches(slice(2, 4), range(3)), strict=True)
    for one, parts in zip(whole, halves, strict=True):
        assert torch.equal(one, torch.cat(parts))
    assert torch.equal(whole[2], batches(slice(0, 4), range(2, 3))[0])  # a resumed run sees the same step


def _crop_px(step: int) -> int:
    return 32


@pytest.mark.parametrize("workers", [0, 1])
def test_photos_that_vanish_or_break_are_named_once_and_change_no_other_sample(photos, tmp_path, capfd, workers):
    shutil.copytree(photos, tmp_path / "photos")
    source, seed, steps, views = parse_source(str(tmp_path / "photos")), 3, range(4), 4
    maker = ViewMaker([source], ("noise",), PLUGINS, SynthesisConfig(view_px=64, crops_per_view=1))

    def samples(workers: int) -> dict[tuple[int, int], torch.Tensor]:
        batches = view_batches(maker, seed, steps, _crop_px, lambda _: slice(0, views), workers)
        return {
            (step, number): lq for step, batch in zip(steps, batches, strict=True) for number, lq in enumerate(batch.lq)
        }

    before = samples(0)
    gone, broken = tmp_path / "photos" / "0.png", tmp_path / "photos" / "2.png"
    gone.unlink()
    broken.write_bytes(broken.read_bytes()[:2000])
    after, again = samples(workers), samples(0)
    drawn = {key: draw_photo([source], np.random.default_rng([seed, *key])).clean for key in before}
    assert {gone, broken} < set(drawn.values())
    for key, path in drawn.items():
        assert torch.equal(before[key], after[key]) == (path not in (gone, broken))
        assert torch.equal(after[key], again[key])
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 4 and said[:2] == said[2:]  # of each run
    assert sum(str(gone) in line for line in said) == sum(str(broken) in line for line in said) == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_a_folder_that_vanishes_ends_the_training_with_a_sentence(photos, tmp_path, workers):
    shutil.copytree(photos, tmp_path / "photos")
    maker = ViewMaker([parse_source(str(tmp_path / "photos"))], ("noise",), PLUGINS, SynthesisConfig(view_px=64))
    shutil.rmtree(tmp_path / "photos")
    with pytest.raises(DataError) as caught:
        next(view_batches(maker, 0, range(1), _crop_px, lambda _: slice(0, 2), workers))
    assert "cannot be used" in caught.value.failed and "No such file" in caught.value.found
    assert "goes on from the last checkpoint" in caught.value.fix and "Traceback" not in str(caught.value)
