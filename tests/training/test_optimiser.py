"""Muon: orthogonal updates, strong and weak directions alike; and the schedule over both optimisers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from defusion_cli.diffusion.unet import DegradationUNet
from defusion_cli.training.optimiser import _QUINTICS, Muon, Optimisers, deal, orthogonalise


@pytest.mark.parametrize("shape", [(3, 8, 20), (2, 20, 8), (1, 6, 6)])
def test_orthogonalised_matrices_have_singular_values_around_one(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices).float())
    assert float(values.min()) > 0.45 and float(values.max()) < 1.4


def test_a_nearly_singular_matrix_becomes_what_the_iteration_in_float64_makes_of_it():
    generator = torch.Generator().manual_seed(2)
    u, _, v = torch.linalg.svd(torch.randn(2, 32, 96, generator=generator), full_matrices=False)
    matrices = u * 10 ** torch.linspace(0, -4, 32) @ v
    gram = matrices.double() @ matrices.double().mT
    x = matrices.double() / (1.01 * gram.square().sum((1, 2), keepdim=True).sqrt()).sqrt()
    for a, b, c in _QUINTICS:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    ours = orthogonalise(matrices)
    assert float((ours - x).norm() / x.norm()) < 0.35  # directions of less than 3 % of the strongest move less
    assert float(torch.linalg.svdvals(ours).max()) < 1.4


def test_the_coefficients_are_the_best_for_what_the_step_before_left():
    low, high = 0.01, 1.0
    for a, b, c in _QUINTICS:
        x = np.linspace(low, high, 2000)
        odd = np.stack([x, x**3, x**5], 1)
        # The least e with |1 − p(x)| ≤ e everywhere.
        bounds = np.block([[odd, -np.ones((2000, 1))], [-odd, -np.ones((2000, 1))]])
        sides = np.concatenate([np.ones(2000), -np.ones(2000)])
        best = linprog([0, 0, 0, 1], bounds, sides, bounds=[(None, None)] * 4).x
        spared = np.array([a * 1.01, b * 1.01**3, c * 1.01**5])
        assert np.abs(odd @ (spared - best[:3])).max() < 0.01
        low, high = 1 - best[3], 1 + best[3]
    assert low > 0.71 and high < 1.29


@pytest.mark.parametrize("rows", [8, 64])
def test_no_spectrum_blows_up(rows):
    """Rounding once let directions with next to no gradient grow to thousands, which ended trainings."""
    generator = torch.Generator().manual_seed(4)
    u, _, v = torch.linalg.svd(torch.randn(40, rows, 9 * rows, generator=generator), full_matrices=False)
    few = torch.tensor([1.0, 0.15, 0.044, 0.03] + [0.01] * (rows - 4))
    for spectrum in (few, 10 ** torch.linspace(0, -4, rows), few**4):
        values = torch.linalg.svdvals(orthogonalise((u * spectrum) @ v))
        assert float(values.max()) < 1.3 and float(values[:, 1].min()) > 0.5 * float(spectrum[1] > 0.1)


def test_each_matrix_is_handled_as_if_it_were_alone():
    matrices = torch.randn(3, 8, 20, generator=torch.Generator().manual_seed(1))
    together = orthogonalise(matrices)
    for alone, one in zip(matrices, together, strict=True):
        assert torch.allclose(orthogonalise(alone[None])[0], one, atol=0.02)


def test_a_weak_direction_moves_as_far_as_a_strong_one():
    strong, weak = torch.eye(4, 9)[:1], torch.eye(4, 9)[1:2]
    kernel = torch.nn.Parameter(torch.zeros(4, 1, 3, 3))
    u = torch.eye(4)
    kernel.grad = (100 * u[:, :1] @ strong + u[:, 1:2] @ weak).view(4, 1, 3, 3)
    Muon([kernel], lr=0.1).step()
    moved = kernel.detach().flatten(1)
    assert abs(float(moved[0, 0])) == pytest.approx(abs(float(moved[1, 1])), rel=0.6)
    assert float(moved[0, 0]) < 0 and float(moved[1, 1]) < 0


def test_muon_forgets_what_no_gradient_renews():
    kernel = torch.nn.Parameter(torch.ones(4, 2, 3, 3))
    kernel.grad = torch.zeros_like(kernel)
    Muon([kernel], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(kernel.detach(), torch.full((4, 2, 3, 3), 0.95))
    model = DegradationUNet(widths=(8, 16), blocks=(1, 1), cross_attention_dim=32, condition_dim=16, heads=2)
    optimisers = Optimisers(model, 1e-3, (0.9, 0.99), 0.0, muon_lr=0.02, muon_decay=0.1)
    assert optimisers._all[1][0].param_groups[0]["weight_decay"] == 0.1


def test_muon_takes_the_inner_kernels_only_and_rates_follow_the_schedule():
    model = DegradationUNet(widths=(8, 16), blocks=(1, 1), cross_attention_dim=32, condition_dim=16, heads=2)
    optimisers = Optimisers(model, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0, muon_lr=0.02)
    adamw, muon = (optimiser for optimiser, _ in optimisers._all)
    inner = {id(p) for p in muon.param_groups[0]["params"]}
    assert inner and all(p.ndim == 4 for p in muon.param_groups[0]["params"])
    assert id(model.conv_in.weight) not in inner and id(model.conv_out.weight) not in inner
    assert len(inner) + len(adamw.param_groups[0]["params"]) == len(list(model.parameters()))
    optimisers.step(5e-4)
    assert adamw.param_groups[0]["lr"] == 5e-4 and muon.param_groups[0]["lr"] == pytest.approx(0.01)


def test_without_a_rate_everything_is_adamws():
    optimisers = Optimisers(torch.nn.Conv2d(3, 4, 3), 1e-3, (0.9, 0.99), 0.0)
    assert [type(optimiser) for optimiser, _ in optimisers._all] == [torch.optim.AdamW]


def test_work_is_dealt_evenly_and_all_of_it():
    work = [9, 1, 5, 5, 3, 1]
    shares = deal(work, 2)
    assert sorted(k for share in shares for k in share) == list(range(6))
    assert [sum(work[k] for k in share) for share in shares] == [12, 12]
    assert deal([7], 3) == [[0], [], []]


def _step_in_a_group(rank: int, store: str, out: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    kernels = _kernels()
    Muon(kernels, lr=0.1).step()
    torch.save([kernel.detach() for kernel in kernels], f"{out}/{rank}.pt")
    torch.distributed.destroy_process_group()


def _kernels() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    kernels = [torch.nn.Parameter(torch.zeros(shape)) for shape in [(8, 4, 3, 3), (8, 4, 3, 3), (4, 16, 1, 1)]]
    for kernel in kernels:
        kernel.grad = torch.randn(kernel.shape, generator=generator)
    return kernels


def test_two_processes_share_the_work_and_end_alike(tmp_path):
    torch.multiprocessing.spawn(_step_in_a_group, (str(tmp_path / "store"), str(tmp_path)), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    alone = _kernels()
    Muon(alone, lr=0.1).step()
    for a, b, c in zip(one, two, alone, strict=True):
        assert torch.equal(a, b) and a.any()
        torch.testing.assert_close(a, c.detach(), rtol=0, atol=2e-3)
