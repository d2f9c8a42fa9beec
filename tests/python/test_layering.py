"""The tree keeps to its layers, and the script that says so sees when one does not."""

from collections.abc import Mapping
from pathlib import Path

import layering
import pytest

REPOSITORY = Path(__file__).parents[2]


def violations_in(root: Path, sources: Mapping[str, str]) -> list[str]:
    for name, text in sources.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return [str(violation) for violation in layering.violations(root)]


def test_this_repository_keeps_to_its_layers() -> None:
    assert layering.violations(REPOSITORY) == []


def test_a_tree_in_order_has_no_violations(tmp_path: Path) -> None:
    assert not violations_in(
        tmp_path,
        {
            "csrc/core/span.h": "#include <cstddef>\n",
            "csrc/core/platform.h": "#ifdef __CUDACC__\n#endif\n",
            "csrc/link/slots.h": '#include "core/span.h"\n',
            "csrc/algorithms/all_reduce_ring.h": '#include "link/slots.h"\n',
            "csrc/transports/transport.h": "",
            "csrc/transports/shm.cpp": '#include "transports/transport.h"\n',
            "csrc/cuda/kernels.cu": '#include "algorithms.h"\n#include <cuda_runtime.h>\n',
            "csrc/bindings/module.cpp": "#include <pybind11/pybind11.h>\n",
            "python/ringtree/__init__.py": "from ringtree.communicator import Communicator\n",
            "python/ringtree/communicator.py": (
                "from typing import TYPE_CHECKING\n"
                "from . import buffers, errors\n"
                "if TYPE_CHECKING:\n    import torch\n"
            ),
            "python/ringtree/rendezvous.py": "def store() -> object:\n    import torch.distributed\n",
            "python/ringtree/train/fsdp.py": "import torch\nfrom ringtree.train import ddp\n",
        },
    )


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("csrc/core/a.h", '\n#include "link/b.h"\n', "csrc/core/a.h:2: core/ must not include from link/"),
        (
            "csrc/algorithms/a.h",
            '#include "algorithms/b.h"\n',
            "csrc/algorithms/a.h:1: files in algorithms/ must not include one another",
        ),
        (
            "csrc/transports/shm.cpp",
            '#include "transports/b.h"\n',
            "csrc/transports/shm.cpp:1: files in transports/ must not include one another",
        ),
        ("csrc/cuda/a.cu", '#include "communicator/b.h"\n', "cuda/ must not include from communicator/"),
        ("csrc/link/a.h", '#include "slots.h"\n', 'csrc/link/a.h:1: "slots.h" does not exist in csrc/'),
        ("csrc/core/a.h", "#include <pybind11/stl.h>\n", "<pybind11/stl.h> is not for core/"),
        ("csrc/bindings/a.h", "#include <torch/torch.h>\n", "<torch/torch.h> is not for bindings/"),
        ("csrc/link/a.h", "#ifdef __CUDACC__\n#endif\n", "only core/platform.h may ask"),
        ("csrc/helpers/a.h", "", "csrc/helpers/ has no place in the table"),
    ],
)
def test_a_wrong_line_of_cpp_is_found(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    layers = ("algorithms", "communicator", "link", "transports")
    [found] = violations_in(tmp_path, {f"csrc/{layer}/b.h": "" for layer in layers} | {name: text})
    assert complaint in found


def test_headers_that_include_each_other_are_found(tmp_path: Path) -> None:
    [found] = violations_in(
        tmp_path,
        {
            "csrc/core/a.h": '#include "core/b.h"\n',
            "csrc/core/b.h": '#include "core/c.h"\n',
            "csrc/core/c.h": '#include "core/a.h"\n',
        },
    )
    assert found == "csrc/core/c.h:1: circle: a.h > b.h > c.h > a.h"


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        (
            "errors.py",
            "\nfrom ringtree import communicator\n",
            "errors.py:2: errors must not import communicator",
        ),
        ("errors.py", "from ringtree.communicator import Work\n", "errors must not import communicator"),
        ("errors.py", "from .buffers import view\n", "errors must not import buffers"),
        ("communicator.py", "import ringtree as rt\n", "communicator must not import __init__"),
        ("compress/int8.py", "from ..train import ddp\n", "compress must not import train"),
        ("communicator.py", "def f() -> None:\n    import torch\n", "communicator must not import torch"),
        ("rendezvous.py", "import torch.distributed\n", "rendezvous must not import torch"),
        ("buffers.py", "from torch import Tensor\n", "buffers must not import torch"),
        ("helpers.py", "", "ringtree.helpers has no place in the table"),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    [found] = violations_in(tmp_path, {f"python/ringtree/{name}": text})
    assert complaint in found
