"""`python -m ringtree` is the command `ringtree`."""

from ringtree.cli import main

main(prog_name="ringtree")
