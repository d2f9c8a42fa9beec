"""Every rank contributes its number; all end with the sum.

python examples/01_all_reduce.py
mpirun -n 2 python examples/01_all_reduce.py
torchrun --nproc-per-node 2 examples/01_all_reduce.py
"""

import numpy as np
import ringtree as rt

with rt.init() as comm:
    x = np.full(4, comm.rank + 1, dtype=np.float32)
    comm.all_reduce(x)
    print(f"rank {comm.rank} of {comm.world_size}: {x}")
