"""The process group backend "ringtree" of torch.distributed.

`import torch` calls register() by the entry point `torch.backends`, so that programs need not import
ringtree: `torch.distributed.init_process_group("ringtree")`. The backend itself is C++ (csrc/torch); it is
loaded when the first group is made.
"""

from ringtree.torch_backend.registration import DEVICES, NAME, open_backend, register

__all__ = ["DEVICES", "NAME", "open_backend", "register"]
