"""The rivals' code, over stand-ins for what this machine lacks: NCCL by PyTorch and by CuPy, symmetric memory."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from contract.emulated import LIBRARY, needs_emulator, run
from ringtree_bench.gpu.rivals.sharing import most_blocks, refusal_to_share, sharing_settings
from stand_ins.ranks import STAND_INS, WITHOUT_TORCH, Done, path_of, run_ranks

TORCH = LIBRARY.with_name("libringtree_torch_emulated.so")
CHANNELS = (
    64 // 2 // 2
)  # of the emulated GPU's multiprocessors: two ranks, of which each takes half of its share

needs_torch = pytest.mark.skipif(
    not TORCH.exists(), reason="cmake --build --preset release --target ringtree_torch_emulated"
)


def table_of(rank: Done, path: Path) -> tuple[dict[str, Any], set[tuple[str, str]]]:
    """The record of a run without wrong elements, and which peer was measured in which collective."""
    assert rank.returncode == 0, rank.stdout + rank.stderr
    assert rank.stdout.endswith("# 0 wrong elements\n")
    (record,) = map(json.loads, path.read_text().splitlines())
    timed = {
        (name, row["collective"])
        for row in record["rows"]
        for name, timing in row["peers"].items()
        if timing and timing["wrong"] == 0 and row["ratios"][name] > 0
    }
    return record, timed


@needs_emulator
@pytest.mark.parametrize(("dtype", "op"), [("float32", "sum"), ("float16", "avg")])
def test_nccl_by_cupy_stands_in_the_table(dtype: str, op: str, tmp_path: Path) -> None:
    path = tmp_path / "gpu.jsonl"
    first, second = run_ranks(
        2, tmp_path, "-m", "ringtree", "gpu", "--as", "processes", "--peers", "nccl", "--dtype", dtype, "--op", op,
        "--collective", "all_reduce,reduce,broadcast,all_gather,reduce_scatter,all_to_all", "--sizes", "64,1000",
        "--iterations", "1", "--json", str(path), PYTHONPATH=path_of(STAND_INS, WITHOUT_TORCH), TMPDIR=str(tmp_path),
    )  # fmt: skip
    assert second.returncode == 0, second.stderr
    record, timed = table_of(first, path)
    assert timed == {
        ("nccl", name) for name in ("all_reduce", "reduce", "broadcast", "all_gather", "reduce_scatter")
    }
    assert record["notes"] == [f"nccl does not do all_to_all of {dtype}: NCCL through CuPy has no all_to_all"]
    assert record["peers"] == {"nccl": "2.30.3, CuPy"}
    assert record["blocks"] == {"ringtree": CHANNELS, "nccl": CHANNELS}
    assert record["settings"]["NCCL_MAX_CTAS"] == str(CHANNELS)
    assert f"most blocks of a rank: ringtree {CHANNELS}, nccl {CHANNELS}\n" in first.stdout


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library that LD_PRELOAD puts in the place of NCCL, as one does whose PyTorch has an old one."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    assert compiler is not None  # with which the emulated GPU was built
    folder = tmp_path_factory.mktemp("nccl")
    source, library = folder / "nccl.cpp", folder / "libnccl.so.2.30.4"
    source.write_text('extern "C" int ncclGetVersion(int* version) { *version = 23004; return 0; }\n')
    command = [compiler, "-shared", "-fPIC", "-Wl,-soname,libnccl.so.2", "-o", library, source]
    subprocess.run(command, check=True)
    return str(library)


@needs_emulator
@needs_torch
def test_nccl_and_symmetric_memory_by_torch_stand_in_the_table(preloaded: str, tmp_path: Path) -> None:
    path = tmp_path / "gpu.jsonl"
    first, second = run_ranks(
        2, tmp_path, str(STAND_INS / "torch_with_rivals.py"), "gpu", "--as", "processes",
        "--peers", "nccl,symm_one_shot,symm_two_shot", "--collective", "all", "--sizes", "64,1000",
        "--iterations", "1", "--json", str(path),
        PYTHONPATH=path_of(), LD_PRELOAD=preloaded, STAND_IN_TORCH=str(TORCH), NCCL_MAX_CTAS="7",
    )  # fmt: skip
    assert second.returncode == 0, second.stderr
    record, timed = table_of(first, path)
    assert {name for peer, name in timed if peer == "nccl"} == {row["collective"] for row in record["rows"]}
    assert {peer for peer, _ in timed} == {"nccl", "symm_one_shot", "symm_two_shot"}
    assert {name for peer, name in timed if peer != "nccl"} == {"all_reduce"}
    assert record["peers"]["nccl"].startswith("2.30.4, torch ")  # not what PyTorch was compiled with
    assert record["blocks"] == {"ringtree": CHANNELS, "nccl": 7, "symm_one_shot": 24, "symm_two_shot": 24}


@needs_emulator
def test_a_script_can_ask_whether_a_rival_can_be_measured() -> None:
    ask = ("-m", "ringtree_bench.gpu.rivals.ask", "nccl")
    new, old = (
        run(*ask, "2", PYTHONPATH=path_of(STAND_INS, WITHOUT_TORCH), STAND_IN_NCCL=number)
        for number in ("23003", "22809")
    )
    assert (new.returncode, new.stdout, new.stderr) == (0, "", "")
    assert old.returncode == 1
    assert old.stderr == (
        "nccl is not measured: NCCL 2.28.9 refuses several ranks on one GPU (2.30.3 and later take them)\n"
    )


def test_old_nccls_refuse_to_share_a_gpu_and_new_ones_are_told_to() -> None:
    assert refusal_to_share((2, 28, 9), 1) == ""
    assert "NCCL 2.28.9 refuses several ranks on one GPU" in refusal_to_share((2, 28, 9), 2)
    assert refusal_to_share((2, 30, 3), 8) == ""


def test_nccl_gets_as_many_blocks_as_ringtree_has_channels() -> None:
    assert sharing_settings(1, 24) == {}
    told = sharing_settings(4, 16)
    assert told == {"NCCL_MULTI_RANK_GPU_ENABLE": "1", "NCCL_MAX_CTAS": "16"}
    assert most_blocks(told) == 16
    assert most_blocks({}) is None
