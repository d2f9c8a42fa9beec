"""See nccl.py. ringtree asks for the current stream wherever CuPy has been imported."""
