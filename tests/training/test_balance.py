"""What is usual for each kind of damage: told apart, averaged, and the same in all processes."""

import pytest
import torch

from defusion_cli.training.balance import ABSENT, BLIND, SEVERAL, Balance, kinds_of


def test_kinds_are_named_by_the_instruction_and_by_what_must_go():
    shown = [("rain",), ("rain", "noise"), (), ("rain",)]
    assert kinds_of(shown, torch.tensor([0.1, 0.1, 0.1, 0.0])) == ["rain", SEVERAL, BLIND, ABSENT]


def test_the_usual_error_of_a_kind_is_its_recent_mean_and_no_other_kinds():
    balance = Balance(["noise", "rain"], 0.2)
    balance.note(["noise", "noise", "rain"], torch.tensor([0.1, 0.3, float("inf")]))
    assert balance.usual_of(["noise"]).tolist() == pytest.approx([0.2])  # not before the step has ended
    balance.end_step(torch.device("cpu"))
    balance.note(["noise", "noise"], torch.tensor([0.0, 0.0]))
    balance.end_step(torch.device("cpu"))
    assert balance.usual_of(["noise", "rain", "noise"]).tolist() == pytest.approx([0.1, 0.2, 0.1])
    for _ in range(2000):  # a window, so that what was long ago is forgotten
        balance.note(["noise"], torch.tensor([0.02]))
        balance.end_step(torch.device("cpu"))
    assert balance.usual_of(["noise"]).item() == pytest.approx(0.02, rel=0.01)


def _note_in_a_group(rank: int, store: str, out: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    balance = Balance(["noise", "rain"], 0.2)
    balance.note(["noise"] * (1 + rank), torch.full((1 + rank,), 0.1 + 0.3 * rank))
    balance.end_step(torch.device("cpu"))
    torch.save(balance.state(), f"{out}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_all_processes_find_the_same_usual(tmp_path):
    torch.multiprocessing.spawn(_note_in_a_group, (str(tmp_path / "store"), str(tmp_path)), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert torch.equal(one["usual"], two["usual"]) and one["usual"][0].item() == pytest.approx((0.1 + 2 * 0.4) / 3)
