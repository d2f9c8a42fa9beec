"""Every algorithm on GPUs that reach each other's memory, by NVLink or over PCIe; some ranks share one."""

import pytest
from gpu.devices import emulated
from gpu.several import check_every_algorithm
from gpu.worlds import everywhere, variables_of_two_gpus


@pytest.mark.parametrize("where", everywhere)
@pytest.mark.parametrize("count", [5, 20_000])
@pytest.mark.parametrize("nvlink", ["1", "0"])
def test_every_algorithm_is_right(nvlink: str, count: int, where: str) -> None:
    environment = variables_of_two_gpus()
    if emulated() is not None:
        environment["RINGTREE_EMULATED_NVLINK"] = nvlink
    elif nvlink == "0":
        pytest.skip("GPUs are joined as they are")
    check_every_algorithm(where, environment, 3, count, staged=False)
