import os
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ringtree as rt
from ringtree.launch import Launch
from ringtree.rendezvous import folder, through_folder, through_parent, through_store
from ringtree.rendezvous.store import store_address
from ringtree.start import exchange_of


def test_a_folder_names_the_ranks_that_did_not_come_and_keeps_nothing_of_the_attempt(tmp_path):
    exchange = through_folder(f"file://{tmp_path}", 1, 3, 0.1)
    with pytest.raises(
        rt.Timeout, match=r"rank 1, init: ranks 0, 2 of 3 did not come to the rendezvous within 0.1 s"
    ) as caught:
        exchange(b"")
    assert caught.value.ranks == (0, 2)
    assert list(tmp_path.iterdir()) == []


def test_alone_a_rank_meets_itself():
    assert exchange_of(Launch(0, 1, "alone"), None, 1, {})(b"me") == [b"me"]


@pytest.mark.parametrize("address", ["tcp://host:1", "/tmp/folder", "file://relative"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(rt.InvalidArgument, match="must look like file:///some/folder"):
        exchange_of(Launch(0, 2, "torchrun"), address, 1, {})


def test_torchruns_variables_without_an_address_name_the_missing_one():
    pytest.importorskip("torch", reason="torch is not installed")
    with pytest.raises(rt.InvalidArgument, match="MASTER_ADDR"):
        through_store(0, 2, 1, {"RANK": "0", "WORLD_SIZE": "2"})


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ({"RANK": "0", "MASTER_ADDR": "node7", "MASTER_PORT": "123"}, ("node7", 123)),
        (
            {"SLURM_STEP_NODELIST": "node[03-07,11],gpu2", "SLURM_JOB_ID": "12", "SLURM_STEP_ID": "3"},
            ("node03", 20195),
        ),
        (
            {"SLURM_STEP_NODELIST": "login,node[1-2]", "SLURM_JOB_ID": "9999", "SLURM_STEP_ID": "0"},
            ("login", 29984),
        ),
        ({"SLURM_STEP_NODELIST": "a", "MASTER_ADDR": "b", "MASTER_PORT": "9"}, ("b", 9)),
    ],
)
def test_the_store_is_where_the_variables_say_and_on_the_first_node_in_slurm(environment, address):
    assert store_address(environment) == address


@pytest.mark.parametrize("port", ["x", "0", "65536", "-1", ""])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(rt.InvalidArgument, match=f"MASTER_PORT='{port}' is no port"):
        store_address({"MASTER_ADDR": "localhost", "MASTER_PORT": port})


def meet_in(folder, world, timeout=10.0, ranks=None):
    """What each rank gets from the others, or the error, in threads."""
    exchanges = {
        rank: through_folder(f"file://{folder}", rank, world, timeout) for rank in ranks or range(world)
    }
    with ThreadPoolExecutor(len(exchanges)) as pool:
        jobs = [pool.submit(exchange, b"rank %d\n\0" % rank) for rank, exchange in exchanges.items()]
        return [job.exception() or job.result() for job in jobs]


def test_a_folder_brings_all_payloads_to_all_ranks_and_is_left_empty(tmp_path):
    assert meet_in(tmp_path / "new" / "folder", 4) == [[b"rank %d\n\0" % rank for rank in range(4)]] * 4
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_a_folder_may_hold_what_a_killed_run_has_left_there(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: None)
    meet_in(tmp_path, 3)
    left = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.undo()
    assert len(left) == 3
    for turn in range(1, 6):  # of the three, one is of the turn that comes next
        for path, card in left.items():
            again = path.with_name(f"ringtree-{folder._turn}-{path.name[-1]}")
            again.write_bytes(card)
        assert meet_in(tmp_path, 3) == [[b"rank %d\n\0" % rank for rank in range(3)]] * 3, turn


def test_old_cards_do_not_count_as_ranks_that_came(tmp_path):
    (tmp_path / f"ringtree-{folder._turn}-1").write_bytes(b"0123\n0123 0123\n0\nold")
    (error,) = meet_in(tmp_path, 2, timeout=0.1, ranks=[0])
    assert isinstance(error, rt.Timeout)
    assert error.ranks == (1,)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        rt.TransportError, match=f"rank 0, init: cannot meet in {tmp_path}/file/x: .*Not a directory"
    ):
        through_folder(f"file://{tmp_path}/file/x", 0, 2, 1)(b"")


@pytest.mark.parametrize(
    ("module", "launch", "advice"),
    [
        (
            "mpi4py",
            Launch(1, 2, "mpirun"),
            r"mpi4py, which cannot be imported .*pip install 'ringtree\[mpi\]'",
        ),
        ("torch.distributed", Launch(1, 2, "torchrun"), r"Torch's store, .*pip install 'ringtree\[torch\]'"),
    ],
)
def test_a_missing_library_is_named_with_what_to_do(monkeypatch, module, launch, advice):
    monkeypatch.setitem(sys.modules, module, None)
    environment = {"RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    with pytest.raises(
        rt.TransportError, match=f"rank 1, init: .*{advice}, or set RINGTREE_RENDEZVOUS=file://"
    ):
        exchange_of(launch, None, 1, environment)


def test_a_store_that_nobody_serves_names_rank_0():
    pytest.importorskip("torch", reason="torch is not installed")
    with socket.socket() as taken:
        taken.bind(("localhost", 0))  # and does not listen
        environment = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(taken.getsockname()[1])}
        with pytest.raises(
            rt.Timeout, match=r"rank 1, init: rank 0 of 2 did not come .* within 0.1 s"
        ) as caught:
            through_store(1, 2, 0.1, environment)(b"")
    assert caught.value.ranks == (0,)


def test_a_store_names_the_ranks_that_did_not_come():
    pytest.importorskip("torch", reason="torch is not installed")
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    environment = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    with pytest.raises(rt.Timeout, match="rank 0, init: ranks 1, 2 of 3 did not come") as caught:
        through_store(0, 3, 0.2, environment)(b"")
    assert caught.value.ranks == (1, 2)


LATE = """
import sys
import ringtree as rt
from mpi4py import MPI

if MPI.COMM_WORLD.rank == 1:  # comes to MPI, but not to ringtree
    MPI.COMM_WORLD.recv(source=0)
else:
    try:
        rt.init(timeout=0.3)
    except rt.Timeout as error:
        print(error, error.ranks)
    MPI.COMM_WORLD.send(None, 1)
"""


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="mpirun is not on PATH")
def test_under_mpirun_the_ranks_that_did_not_come_are_named():
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    as_root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(
        ["mpirun", "-n", "2", "--map-by", ":OVERSUBSCRIBE", "--bind-to", "none", sys.executable, "-c", LATE],
        env=os.environ | as_root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == (
        "rank 0, init: rank 1 of 2 did not come to the rendezvous within 0.3 s. "
        "No communicator was opened. (1,)\n"
    ), done.stderr


def test_a_parent_brings_payloads_of_different_lengths_to_the_members():
    def body(comm):
        return [bytes(part) for part in through_parent(comm, [2, 0])(b"x" * (comm.rank * 5))]

    assert rt.run_local(3, body) == [[b"x" * 10, b""]] * 3
