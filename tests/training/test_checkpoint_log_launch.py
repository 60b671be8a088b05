"""What all training shares: checkpoints that survive anything, logs that resume, torchrun's command line."""

from __future__ import annotations

import pytest
import torch

from defusion_cli.errors import DataError, UsageError
from defusion_cli.training.checkpoint import latest_checkpoint, list_checkpoints, load_checkpoint, save_checkpoint
from defusion_cli.training.ema import Ema
from defusion_cli.training.launch import Cluster, needs_launch, torchrun_command
from defusion_cli.training.log import RunLog


def test_a_checkpoint_gives_back_optimiser_and_numbers(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    save_checkpoint(tmp_path, 7, {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "x": 0.1})
    step, state = load_checkpoint(latest_checkpoint(tmp_path))
    assert step == 7 and state["x"] == 0.1
    assert torch.equal(state["model"]["weight"], model.weight)
    other = torch.optim.AdamW(model.parameters(), lr=1.0)
    other.load_state_dict(state["optimiser"])
    assert other.param_groups[0]["lr"] == 1e-3
    assert torch.equal(other.state[model.weight]["exp_avg"], optimiser.state[model.weight]["exp_avg"])


def test_old_checkpoints_go_and_half_written_ones_are_not_seen(tmp_path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {"x": step})
    (tmp_path / ".defusion-4-1.tmp").mkdir()
    assert [step for step, _ in list_checkpoints(tmp_path)] == [2, 3]


def test_a_damaged_checkpoint_is_explained(tmp_path):
    path = save_checkpoint(tmp_path, 1, {"x": torch.ones(3)})
    (path / "tensors.safetensors").write_bytes(b"\x80\x04nonsense")
    with pytest.raises(DataError, match="cannot be read"):
        load_checkpoint(path)


def test_a_resumed_log_forgets_the_work_that_was_lost(tmp_path):
    log = RunLog(tmp_path)
    for step in range(1, 6):
        log.add(step, {"loss": 1 / step})
    log.close()
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("6,lo")  # cut short by a crash
    resumed = RunLog(tmp_path, step=3)
    assert [row["step"] for row in resumed.rows] == [1, 2, 3]
    resumed.add(4, {"loss": 0.5})
    resumed.close()
    assert (tmp_path / "metrics.csv").read_text().splitlines()[-1] == "4,loss,0.5"
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_the_average_follows_the_weights():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    ema = Ema(model, decay=0.9)
    torch.nn.init.ones_(model.weight)
    ema.update(model, step=99)
    assert float(ema.shadow["weight"]) == pytest.approx(0.1)
    ema.update(model, step=1000)
    assert float(ema.shadow["weight"]) == pytest.approx(0.1)
    ema.update(model, step=1001)  # for both
    assert float(ema.shadow["weight"]) == pytest.approx(1 - 0.9**3)
    for step in range(1000, 1100):
        ema.update(model, step)
    ema.copy_to(model)
    assert model.weight.item() == pytest.approx(1.0, abs=1e-3)


def test_torchrun_starts_one_process_a_gpu_on_every_node(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    one = torchrun_command(Cluster(8), ["train", "--data", "x"])
    assert (
        "--nproc-per-node=8" in one
        and "--standalone" in one
        and one[-5:] == ["-m", "defusion_cli", "train", "--data", "x"]
    )
    many = torchrun_command(Cluster(8, 4, "head:29500"), ["train"])
    assert {"--nnodes=4", "--rdzv-endpoint=head:29500", "--rdzv-backend=c10d"} <= set(many)
    assert Cluster(8, 4, "head:29500").processes == 32
    assert needs_launch(Cluster(2)) and not needs_launch(Cluster())
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert not needs_launch(Cluster(2))


@pytest.mark.parametrize("arguments", [{"nodes": 2, "gpus": 8}, {"nodes": 2, "rdzv_endpoint": "a:1"}])
def test_incomplete_clusters_are_refused(arguments):
    with pytest.raises(UsageError):
        Cluster(**arguments)
