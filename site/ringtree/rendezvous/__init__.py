"""How ranks that share nothing yet give each other a few bytes.

An exchange is called once by every rank, with its own bytes, and returns those of all ranks by rank. A
communicator needs exactly one. Each way to do it is a file:

    folder    files in a folder that all ranks see; needs no library
    mpi       MPI's messages, through mpi4py; under mpirun
    store     Torch's TCPStore; under torchrun, and with Slurm's variables
    parent    a communicator that is there already; for split()

Every wait ends after the timeout, with an error that names the ranks that did not come.
"""

from ringtree.rendezvous.folder import through_folder
from ringtree.rendezvous.mpi import through_mpi
from ringtree.rendezvous.parent import through_parent
from ringtree.rendezvous.store import through_store
from ringtree.rendezvous.wait import Exchange

__all__ = ["Exchange", "through_folder", "through_mpi", "through_parent", "through_store"]
