"""As much of CuPy as the suite calls, for machines without it: NCCL's collectives, over ringtree's on the host."""
