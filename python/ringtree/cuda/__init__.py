"""GPUs: their memory, streams for ranks that are threads, and virtual ranks that share one of them.

Everything here loads the CUDA fabric, a library of its own, when it is first used (docs/gpu.md).
"""

from ringtree.cuda.arrays import DeviceArray, device_count, device_name, empty
from ringtree.cuda.streams import own_stream
from ringtree.cuda.virtual import VirtualRanks

__all__ = ["DeviceArray", "VirtualRanks", "device_count", "device_name", "empty", "own_stream"]
