"""`ringtree gpu` beside a PyTorch that has NCCL and symmetric memory on the emulated GPU, as one of its ranks.

    RANK=0 WORLD_SIZE=2 ... python tests/stand_ins/torch_with_rivals.py gpu --peers nccl,symm_one_shot ...

Tensors are those of tests/torch_gpu/emulated_torch.cpp. What the suite calls is PyTorch's own Python, down to
the C++ that a PyTorch for CPUs lacks: NCCL's groups are ringtree's instead, and the kernels of symmetric memory,
which have their schemas there, move tensors to the host and are Gloo's. So names, order and types of arguments
are checked by PyTorch itself.
"""

import ctypes
import os
import sys
from types import SimpleNamespace
from typing import Any, ClassVar

ctypes.CDLL(os.environ["STAND_IN_TORCH"])  # before torch, which looks for CUDA once

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
import torch.distributed._symmetric_memory as symmetric_memory  # noqa: E402
from ringtree.cli import main  # noqa: E402
from ringtree_bench.gpu.rivals import nccl, symmetric  # noqa: E402
from torch.distributed import distributed_c10d as c10d  # noqa: E402

NCCL_IN_PYTORCH = (2, 28, 9)  # which it was compiled with


def pretend_cuda() -> None:
    torch.cuda._lazy_init = lambda: None
    torch.cuda.current_stream = lambda device=None: SimpleNamespace(cuda_stream=0)
    torch.cuda.get_device_capability = lambda device=None: (9, 0)
    torch.cuda.nccl.version = lambda: NCCL_IN_PYTORCH
    for module in (nccl, symmetric):
        module.torch_of_gpu = lambda: torch


def pretend_nccl() -> None:
    dist.is_nccl_available = lambda: True
    make_first, make = dist.init_process_group, dist.new_group

    def first(backend: str, **options: Any) -> None:
        make_first("ringtree" if backend == "nccl" else backend, **options)

    def group(*, backend: str, **options: Any) -> Any:
        return make(backend="ringtree" if backend == "nccl" else backend, **options)

    dist.init_process_group, dist.new_group = first, group


class Symmetric:
    """In place of torch._C._distributed_c10d._SymmetricMemory: which tensors all ranks have mapped."""

    met: ClassVar[set[tuple[int, str]]] = set()

    @staticmethod
    def empty_strided_p2p(size: Any, stride: Any, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        assert os.environ["TORCH_SYMM_MEM_ALLOW_OVERLAPPING_DEVICES"] == "1"
        return torch.empty_strided(size, stride, dtype=dtype, device=device)

    @classmethod
    def rendezvous(cls, tensor: torch.Tensor, group_name: str) -> None:
        dist.barrier(c10d._resolve_process_group(group_name))
        cls.met.add((tensor.data_ptr(), group_name))


def sum_of_ranks(tensor: torch.Tensor, reduce_op: str, group_name: str) -> torch.Tensor:
    assert (tensor.data_ptr(), group_name) in Symmetric.met
    assert reduce_op == "sum"
    host = tensor.cpu()
    dist.all_reduce(host, group=c10d._resolve_process_group(group_name))
    return host


def one_shot_all_reduce_out(
    input: torch.Tensor,  # the schema's name
    reduce_op: str,
    group_name: str,
    out: torch.Tensor,
) -> torch.Tensor:
    assert out.data_ptr() != input.data_ptr()
    return out.copy_(sum_of_ranks(input, reduce_op, group_name))


def two_shot_all_reduce_(
    input: torch.Tensor,
    reduce_op: str,
    group_name: str,
) -> torch.Tensor:
    return input.copy_(sum_of_ranks(input, reduce_op, group_name))


def pretend_symmetric_memory() -> torch.library.Library:
    symmetric_memory._SymmetricMemory = Symmetric
    symmetric_memory._should_use_implicit_mempool = lambda: False  # of PyTorch's allocator, which is C++
    library = torch.library.Library("symm_mem", "IMPL", "CUDA")
    for function in (one_shot_all_reduce_out, two_shot_all_reduce_):
        library.impl(function.__name__, function)
    return library


if __name__ == "__main__":
    pretend_cuda()
    pretend_nccl()
    kept = pretend_symmetric_memory()  # what it registers goes with it
    sys.argv[0] = "ringtree"
    main(prog_name="ringtree")
