"""The suite: ringtree beside its rivals in one process group, checked, timed and drawn (`ringtree bench`)."""
