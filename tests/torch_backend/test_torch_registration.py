"""torch.distributed knows ringtree without being told; what does not fit is said in one line."""

import os
import re
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import ringtree as rt
import torch
import torch.distributed as dist
from ringtree.torch_backend import DEVICES, registration
from torch_backend.ranks import run_ranks


def python(program: str, *launcher: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RINGTREE_")}
    return subprocess.run(
        [*(launcher or (sys.executable, "-c")), textwrap.dedent(program) if not launcher else program],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_entry_point_is_installed() -> None:
    (found,) = [point for point in entry_points(group="torch.backends") if point.name == "ringtree"]
    assert found.value == "ringtree.torch_backend:register"


def test_a_program_that_does_not_import_ringtree_may_name_it() -> None:
    program = """
        import sys
        import torch
        import torch.distributed as dist

        assert dist.is_backend_available("ringtree")
        assert "ringtree._torch" not in sys.modules  # which is loaded by whoever uses it
        for backend in ("ringtree", "cpu:ringtree"):
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
            dist.all_reduce(torch.ones(1))
            dist.destroy_process_group()
        print("done")
    """
    done = python(program)
    assert done.stdout == "done\n", done.stderr


def test_it_is_registered_for_tensors_on_cpus_and_gpus() -> None:
    assert dist.Backend.backend_capability["ringtree"] == list(DEVICES) == ["cpu", "cuda"]


def test_a_module_that_does_not_fit_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ringtree._torch", None)
    monkeypatch.delattr(rt, "_torch", raising=False)
    with pytest.raises(rt.TransportError) as raised:
        registration.open_backend(dist.HashStore(), 0, 1, registration.timedelta(seconds=1))
    text = str(raised.value)
    assert f"the backend ringtree does not work with this PyTorch, {torch.__version__}" in text
    assert "pip install --no-build-isolation --force-reinstall ringtree" in text
    assert "\n" not in text


def test_a_module_for_another_release_is_refused_though_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringtree._torch.PYTORCH", "2.10.1")
    with pytest.raises(
        rt.TransportError, match=re.escape(f"{torch.__version__} (it was built against 2.10.1)")
    ):
        registration.open_backend(dist.HashStore(), 0, 1, registration.timedelta(seconds=1))


def chosen_algorithm() -> None:
    dist.all_reduce(torch.ones(8 + dist.get_rank()))


def test_what_the_user_has_set_holds_here_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGTREE_ALGORITHM", "all_reduce=ring")
    with pytest.raises(AssertionError, match="float32 x 8, sum, ring"):
        run_ranks(2, chosen_algorithm)
    monkeypatch.setenv("RINGTREE_ALGORITHM", "all_reduce=rong")
    with pytest.raises(AssertionError, match="rong"):
        run_ranks(2, chosen_algorithm)


ELASTIC = """
import os, signal, sys
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("ringtree")
rank, path = dist.get_rank(), sys.argv[1]
torch.manual_seed(0)
model = DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
first = 0
if os.path.exists(path):
    saved = torch.load(path)
    model.load_state_dict(saved["model"])
    first = saved["step"]
for step in range(first, 6):
    torch.manual_seed(step)
    model(torch.randn(8, 4)).pow(2).mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    if rank == 0:
        torch.save({"model": model.state_dict(), "step": step + 1}, path + ".new")
        os.rename(path + ".new", path)
    dist.barrier()
    if step == 2 and first == 0 and rank == 1 and sys.argv[2] == "struck":
        os.kill(os.getpid(), signal.SIGKILL)
if rank == 0:
    print("resumed at", first, "ended with", [round(x, 6) for x in model.module.weight[0].tolist()], flush=True)
dist.destroy_process_group()
"""


def test_torchrun_restarts_after_a_kill_and_training_resumes(tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text(ELASTIC)

    def train(name: str) -> Any:
        return subprocess.run(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
                *("--max-restarts=1", str(program), str(tmp_path / name), name),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )

    done = train("struck")
    assert done.returncode == 0, done.stderr
    assert "resumed at 3 ended with [" in done.stdout
    calm = train("calm")
    assert calm.stdout == done.stdout.replace("resumed at 3", "resumed at 0"), calm.stderr
