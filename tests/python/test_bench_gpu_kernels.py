"""`ringtree gpu --kernels`: what cuobjdump prints is read right, and the rest follows from it."""

import re
import subprocess
from pathlib import Path

import pytest
import ringtree as rt
from contract.emulated import LIBRARY, ROOT, needs_emulator, run
from ringtree import _core
from ringtree_bench.gpu.kernels import (
    AREAS_BYTES,
    LANES,
    MEETING_BYTES,
    MULTIPROCESSORS,
    STAGING_BYTES,
    Kernel,
    cuobjdump,
    library,
    parse,
    read,
    table,
)

# Of CUDA 13.0, shortened: functions that kernels call are among them, and have no parameters in CONSTANT[0].
RECORDED = """\

Fatbin elf code:
================
arch = sm_80
code version = [1,8]
host = linux
compile_size = 64bit

Resource usage:
 Common:
  GLOBAL:304
 Function __cuda_sm20_rem_u64:
  REG:24 STACK:0 SHARED:0 LOCAL:0 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function __nv_static_38__618bbb7b_10_kernels_cu_abbc1093_30632__ZN8ringtree49_GLOBAL__N__618bbb7b_10_kernels_cu_abbc1093_3063217collective_kernelILNS_10CollectiveE8ENS_16barrier_one_shotENS_11PacketLinksEEEvNS_10DeviceCallE:
  REG:48 STACK:0 SHARED:0 LOCAL:0 CONSTANT[2]:16 CONSTANT[0]:2792 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function __nv_static_38__618bbb7b_10_kernels_cu_abbc1093_30632__ZN8ringtree49_GLOBAL__N__618bbb7b_10_kernels_cu_abbc1093_3063217collective_kernelILNS_10CollectiveE0ENS_15all_reduce_ringENS_11DeviceLinksEEEvNS_10DeviceCallE:
  REG:128 STACK:864 SHARED:0 LOCAL:0 CONSTANT[2]:32 CONSTANT[0]:2792 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function _ZN8ringtree12empty_kernelEv:
  REG:4 STACK:0 SHARED:0 LOCAL:0 CONSTANT[0]:352 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function _ZN43_INTERNAL_ed896c52_12_reduction_cu_003a22568ringtree45_GLOBAL__N__ed896c52_12_reduction_cu_003a22567combineIfNS0_3SumEEEvPvPKPKvimi:
  REG:126 STACK:0 SHARED:0 LOCAL:0 TEXTURE:0 SURFACE:0 SAMPLER:0

Fatbin elf code:
================
arch = sm_90
code version = [1,8]
host = linux
compile_size = 64bit

Resource usage:
 Common:
  GLOBAL:304
 Function __nv_static_38__618bbb7b_10_kernels_cu_abbc1093_30632__ZN8ringtree49_GLOBAL__N__618bbb7b_10_kernels_cu_abbc1093_3063217collective_kernelILNS_10CollectiveE8ENS_16barrier_one_shotENS_11PacketLinksEEEvNS_10DeviceCallE:
  REG:48 STACK:0 SHARED:1024 LOCAL:0 CONSTANT[0]:2968 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function __nv_static_38__618bbb7b_10_kernels_cu_abbc1093_30632__ZN8ringtree49_GLOBAL__N__618bbb7b_10_kernels_cu_abbc1093_3063217collective_kernelILNS_10CollectiveE0ENS_15all_reduce_ringENS_11DeviceLinksEEEvNS_10DeviceCallE:
  REG:128 STACK:744 SHARED:0 LOCAL:0 CONSTANT[0]:2968 TEXTURE:0 SURFACE:0 SAMPLER:0
"""


def test_kernels_are_read_with_their_names_and_functions_that_they_call_are_not() -> None:
    assert parse(RECORDED) == [
        Kernel("sm_80", "barrier_one_shot", "packets", 48, 0, 0),
        Kernel("sm_80", "all_reduce_ring", "slots", 128, 864, 0),
        Kernel("sm_80", "empty_kernel", "", 4, 0, 0),
        Kernel("sm_90", "barrier_one_shot", "packets", 48, 0, 1024),
        Kernel("sm_90", "all_reduce_ring", "slots", 128, 744, 0),
    ]
    assert parse("") == []


def test_a_kernel_that_recurses_is_named() -> None:
    with pytest.raises(ValueError, match="all_reduce_ring recurses"):
        parse(RECORDED.replace("STACK:864", "STACK:UNKNOWN"))


@pytest.mark.parametrize(
    ("registers", "shared", "blocks"),
    [(32, 0, 4), (33, 0, 3), (40, 0, 3), (41, 0, 2), (64, 0, 2), (65, 0, 1), (128, 0, 1), (16, 48 << 10, 3),
     (16, 100 << 10, 1)],
)  # fmt: skip
def test_so_many_blocks_fit_as_cuda_says(registers: int, shared: int, blocks: int) -> None:
    """Of 512 lanes on sm_80, by the formulas of CUDA's occupancy calculator."""
    place = MULTIPROCESSORS["sm_80"]
    kernel = Kernel("sm_80", "some_kernel", "", registers, 0, shared)
    assert place.blocks_of(kernel) == blocks
    assert place.share_of_warps(kernel) == blocks / 4


def test_the_table_has_a_line_for_each_kernel_in_the_catalogue_s_order() -> None:
    *_, ring, barrier, empty = table(parse(RECORDED), 4)
    assert ring.split() == ["all_reduce_ring", "slots", "128", "864", "0+0", "1", "25", "128", "744", "0+0", "1",
                            "25", "5.75", "2.00", "2.88"]  # fmt: skip
    assert barrier.split() == ["barrier_one_shot", "packets", "48", "0", "0+32768", "2", "50", "48", "0",
                               "1024+32768", "2", "50", "-", "-", "-"]  # fmt: skip
    assert empty.split() == ["empty_kernel", "4", "0", "0+0", "4", "100", *"-" * 8]


def test_what_is_known_of_the_launch_is_what_the_sources_say() -> None:
    csrc = ROOT / "csrc" / "cuda"
    lanes = re.search(r"kLanes = (\d+);", (csrc / "introduction.cpp").read_text())
    packets = re.search(r"packet_bytes = std::size_t\{(\d+)\} << 10", (csrc / "layout.h").read_text())
    assert lanes is not None
    assert packets is not None
    assert int(lanes[1]) == LANES
    assert int(packets[1]) << 10 == STAGING_BYTES
    assert "(packet_bytes * 3 / 16 / kCacheLine - 1) * kCacheLine" in (csrc / "layout.h").read_text()
    assert "kAreas = 4" in (csrc / "layout.h").read_text()
    assert 4 * (STAGING_BYTES * 3 // 16 // 64 - 1) * 64 == AREAS_BYTES
    assert f"meeting_bytes(kMaxDeviceRanks) == {MEETING_BYTES}" in (csrc / "state.h").read_text()


NO_KERNEL = {("all_gather", "recursive_doubling"), ("reduce_scatter", "recursive_halving")}


@pytest.mark.skipif(
    not (library().exists() and cuobjdump()), reason="no libringtree_cuda.so (make cuda), or no cuobjdump"
)
def test_the_library_has_a_kernel_for_each_algorithm_and_a_block_of_each_fits() -> None:
    kernels = read(library())
    for arch in {kernel.arch for kernel in kernels}:
        names: dict[str, set[str]] = {"slots": set(), "packets": set(), "arrays": set(), "": set()}
        for kernel in kernels:
            if kernel.arch == arch:
                names[kernel.links].add(kernel.name)
        assert names["slots"] | names["arrays"] == {
            f"{collective}_{algorithm}"
            for collective in rt.COLLECTIVES
            for algorithm in _core.algorithms(collective)
            if (collective, algorithm) not in NO_KERNEL
        }
        assert names["slots"] == names["packets"]
        assert all(name.endswith("_zero_copy") for name in names["arrays"])
    assert all(
        MULTIPROCESSORS[kernel.arch].blocks_of(kernel) >= 1
        for kernel in kernels
        if kernel.arch in MULTIPROCESSORS
    )
    result = run("-m", "ringtree", "gpu", "--kernels", RINGTREE_CUDA_LIBRARY=str(library()))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[1:] == list(table(kernels, 2))


@pytest.mark.skipif(
    not (library().exists() and cuobjdump()), reason="no libringtree_cuda.so (make cuda), or no cuobjdump"
)
def test_the_library_serves_the_architectures_that_are_promised_and_later_ones_by_ptx() -> None:
    """bench/build_gpu.sh builds for the GPU at hand alone, and keeps its word of that in build/gpu."""
    if (ROOT / "build" / "gpu" / "CMakeCache.txt").exists():
        pytest.skip("bench/build_gpu.sh has built here, for one GPU alone")
    assert {"sm_80", "sm_90"} <= {kernel.arch for kernel in read(library())}
    # -all: also what is relocatable, which the driver links when it compiles it.
    listed = subprocess.run(
        [str(cuobjdump()), "-all", "--list-ptx", str(library())], capture_output=True, text=True, check=True
    )
    assert re.search(r"\.sm_90\.ptx", listed.stdout), listed.stdout


def test_one_line_says_what_is_missing(tmp_path: Path) -> None:
    missing = tmp_path / "none.so"
    result = run("-m", "ringtree", "gpu", "--kernels", RINGTREE_CUDA_LIBRARY=str(missing))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"Error: there is no {missing}: `make cuda` builds it where nvcc is\n"


@needs_emulator
def test_a_library_without_kernels_and_a_missing_cuobjdump_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if cuobjdump():
        with pytest.raises(
            ValueError, match=r"libringtree_cuda_emulated\.so holds no kernels \(.*device code"
        ):
            read(LIBRARY)
    monkeypatch.setattr("ringtree_bench.gpu.kernels.cuobjdump", lambda: None)
    with pytest.raises(
        ValueError, match="cuobjdump is not found: it is part of CUDA's toolkit, or pip install"
    ):
        read(LIBRARY)
