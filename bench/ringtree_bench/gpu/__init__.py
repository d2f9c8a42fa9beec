"""The suite on GPUs: what `bench` does for the host's memory, for calls that are enqueued on a stream."""
