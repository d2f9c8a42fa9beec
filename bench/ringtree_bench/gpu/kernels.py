"""What the compiler has made of the kernels; no GPU is needed for it.

CUDA's cuobjdump tells what each kernel of libringtree_cuda.so takes on each architecture. How many blocks a
multiprocessor has room for follows by the rules of the CUDA C++ Programming Guide, "Compute Capabilities".
What an algorithm moves is what it declares (csrc/schedule/cost.h).
"""

import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ringtree as rt
from ringtree import _core

from ringtree_bench.cases import cases_of_sizes

LANES = 512  # of a block: kLanes in csrc/cuda/introduction.cpp
# Dynamic shared memory of a block that runs over packets, at most, and of one that moves messages: see
# DeviceLayout::of in csrc/cuda/layout.h. Of one that uses its peers' arrays: the offers of 16 ranks, see
# meeting_bytes in csrc/cuda/state.h.
STAGING_BYTES = 32 << 10
AREAS_BYTES = 4 * (STAGING_BYTES * 3 // 16 - 64)
MEETING_BYTES = 16 * 192

_LINKS = {"DeviceLinks": "slots", "PacketLinks": "packets", "ArrayLinks": "arrays"}  # in words
_STEMS = {f"{name}_{how}": (name, how) for name in rt.COLLECTIVES for how in _core.algorithms(name)}
_LARGE_BYTES = 256 << 20


@dataclass(frozen=True)
class Kernel:
    """One kernel on one architecture."""

    arch: str
    name: str
    links: str  # how blocks reach their peers; empty for a kernel without peers
    registers: int
    local_bytes: int  # of a lane: arrays, what calls save, and what is spilt
    shared_bytes: int  # static; on sm_90 CUDA counts 1 KiB of its own where a kernel uses any

    @property
    def staging_bytes(self) -> int:
        """Dynamic shared memory, at most."""
        if self.name == "messages_kernel":
            return AREAS_BYTES
        return {"packets": STAGING_BYTES, "arrays": MEETING_BYTES}.get(self.links, 0)


@dataclass(frozen=True)
class Multiprocessor:
    """What blocks share. A quarter of the registers belongs to each scheduler."""

    shared_bytes: int
    registers: int = 64 << 10
    warps: int = 64
    blocks: int = 32

    def blocks_of(self, kernel: Kernel) -> int:
        """How many blocks of `LANES` are resident at once."""
        warps = LANES // 32
        of_a_warp = _up(kernel.registers * 32, 256)
        by_registers = self.registers // 4 // of_a_warp * 4 // warps
        shared = _up(kernel.shared_bytes + kernel.staging_bytes, 128) + 1024  # CUDA takes 1 KiB
        return min(by_registers, self.shared_bytes // shared, self.warps // warps, self.blocks)

    def share_of_warps(self, kernel: Kernel) -> float:
        """The warps of those blocks, of all that there could be."""
        return self.blocks_of(kernel) * (LANES // 32) / self.warps


MULTIPROCESSORS = {"sm_80": Multiprocessor(164 << 10), "sm_90": Multiprocessor(228 << 10)}


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


def parse(text: str) -> list[Kernel]:
    """The kernels in what `cuobjdump --dump-resource-usage` prints, in its order."""
    kernels, arch, mangled = [], "", ""
    for line in text.splitlines():
        if found := re.match(r"arch = (\w+)", line):
            arch = found[1]
        elif found := re.match(r" Function (\w+):", line):
            mangled = found[1]
        elif "CONSTANT[0]" in line:  # where parameters are: functions that kernels call have none there
            used = {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", line)}
            if "STACK" not in used:
                raise ValueError(
                    f"{_demangled(mangled)[0]} recurses, so that nobody knows how much memory it takes"
                )
            local = used["STACK"] + used["LOCAL"]
            kernels.append(Kernel(arch, *_demangled(mangled), used["REG"], local, used["SHARED"]))
    return kernels


def _demangled(mangled: str) -> tuple[str, str]:
    """The kernel's name, or the algorithm that it is made of; and its links."""
    starts = re.finditer(r"(?:_ZN8ringtree|NS\d*_)(\d+)", mangled)  # of a name, behind its length
    words = [mangled[start.end() : start.end() + int(start[1])] for start in starts] or [mangled]
    name = next((word for word in words if word in _STEMS), words[0])
    links = next((_LINKS.get(word, word) for word in words if word.endswith("Links")), "")
    return name, links


def library() -> Path:
    """The one that `ringtree._core` loads."""
    return Path(
        os.environ.get("RINGTREE_CUDA_LIBRARY") or Path(_core.__file__).with_name("libringtree_cuda.so")
    )


def cuobjdump() -> str | None:
    """Where it is: on PATH, in the toolkit's usual place, or from pip."""
    from_pip = Path(sysconfig.get_path("purelib")).glob("nvidia/cu*/bin")
    elsewhere = os.pathsep.join(["/usr/local/cuda/bin", *map(str, from_pip)])
    return shutil.which("cuobjdump") or shutil.which("cuobjdump", path=elsewhere)


def read(path: Path) -> list[Kernel]:
    """The kernels in a library; a ValueError says what is missing."""
    if not path.exists():
        raise ValueError(f"there is no {path}: `make cuda` builds it where nvcc is")
    command = cuobjdump()
    if command is None:
        raise ValueError(
            "cuobjdump is not found: it is part of CUDA's toolkit, or pip install nvidia-cuda-cuobjdump"
        )
    done = subprocess.run(
        [command, "--dump-resource-usage", str(path)], capture_output=True, text=True, check=False
    )
    kernels = parse(done.stdout)
    if not kernels:
        raise ValueError(f"{path} holds no kernels ({done.stderr.strip()})")
    return kernels


def table(kernels: list[Kernel], ranks: int) -> Iterator[str]:
    """A line a kernel, in the catalogue's order; `ranks` is the world whose bytes are counted."""
    arches = sorted({kernel.arch for kernel in kernels})
    by_name: dict[tuple[str, str], dict[str, Kernel]] = {}
    for kernel in kernels:
        by_name.setdefault((kernel.name, kernel.links), {})[kernel.arch] = kernel
    order = [*_STEMS]
    rows = sorted(
        by_name, key=lambda row: (order.index(row[0]) if row[0] in order else len(order), row[1] == "packets")
    )
    yield f"# blocks of {LANES} lanes; shared: static + dynamic, of which there is so much at most"
    yield f"# moved: declared, by the busiest of {ranks} ranks; least: of all ranks, divided by their number"
    titles = "".join(f"  {arch:>5} {'local':>5} {'shared':>10} {'blocks':>6} {'warps':>5}" for arch in arches)
    yield f"{'# kernel':<30} {'over':<7}{titles}  {'moved':>6} {'least':>6} {'ratio':>6}"
    units = f"  {'(reg)':>5} {'(B)':>5} {'(B)':>10} {'':>6} {'(%)':>5}" * len(arches)
    yield f"{'#':<30} {'':<7}{units}  {'(S)':>6} {'(S)':>6}"
    for name, links in rows:
        cells = "".join(_cells(by_name[name, links].get(arch)) for arch in arches)
        yield f"{name:<30} {links:<7}{cells}  {_moved(name, links, ranks)}".rstrip()


def _cells(kernel: Kernel | None) -> str:
    if kernel is None:
        return f"  {'-':>5} {'-':>5} {'-':>10} {'-':>6} {'-':>5}"
    shared = f"{kernel.shared_bytes}+{kernel.staging_bytes}"
    place = MULTIPROCESSORS.get(kernel.arch)
    blocks = str(place.blocks_of(kernel)) if place else "-"
    warps = f"{100 * place.share_of_warps(kernel):.0f}" if place else "-"
    return f"  {kernel.registers:>5} {kernel.local_bytes:>5} {shared:>10} {blocks:>6} {warps:>5}"


def _moved(name: str, links: str, ranks: int) -> str:
    """Declared and least bytes; nothing is declared of packets, nor of kernels without arrays."""
    collective, algorithm = _STEMS.get(name, ("barrier", ""))
    if collective == "barrier" or links == "packets":
        return f"{'-':>6} {'-':>6} {'-':>6}"
    [case] = cases_of_sizes(collective, [_LARGE_BYTES], "float32", "sum", ranks)
    moved = _core.cost(collective, algorithm, ranks, case.chooser_bytes).moved_bytes / case.size_bytes
    least = case.least_traffic_bytes / ranks / case.size_bytes
    return f"{moved:>6.2f} {least:>6.2f} {moved / least:>6.2f}"
