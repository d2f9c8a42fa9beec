"""Through MPI's messages, for ranks that mpirun has started.

Not through MPI's all-gather: that waits for a rank that never comes without end, and does not say for which.
"""

import itertools

from ringtree.errors import TransportError
from ringtree.rendezvous.wait import Exchange, did_not_come, looks

_tags = itertools.count(1)  # all ranks count alike: a late answer to one attempt is not taken for another's


def through_mpi(rank: int, world: int, timeout: float) -> Exchange:
    """Through mpi4py's COMM_WORLD, in which this must be `rank` of `world`.

    Args:
        rank: this rank, as the launcher's variables say.
        world: how many there are, as they say.
        timeout: seconds. Starting MPI itself is not bounded by it.

    Raises:
        TransportError: mpi4py cannot be imported, or belongs to another MPI than mpirun.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise TransportError(
            f"rank {rank}, init: ranks that mpirun has started meet through mpi4py, which cannot be imported "
            f"({error}): pip install 'ringtree[mpi]', or set RINGTREE_RENDEZVOUS=file:///some/folder"
        ) from None
    comm = MPI.COMM_WORLD
    if (comm.rank, comm.size) != (rank, world):
        raise TransportError(
            f"rank {rank}, init: the launcher says rank {rank} of {world}, mpi4py says rank {comm.rank} of "
            f"{comm.size}: they belong to different MPIs; install mpi4py for the MPI of this mpirun, or set "
            "RINGTREE_RENDEZVOUS=file:///some/folder"
        )

    def exchange(payload: bytes) -> list[bytes]:
        tag = next(_tags)
        others = [peer for peer in range(world) if peer != rank]
        sending = [comm.isend(payload, peer, tag) for peer in others]
        arrived: dict[int, bytes] = {rank: payload}
        for _ in looks(timeout):
            for peer in others:
                if peer not in arrived and comm.iprobe(peer, tag):
                    arrived[peer] = comm.recv(source=peer, tag=tag)
            if len(arrived) == world and MPI.Request.testall(sending)[0]:
                return [arrived[peer] for peer in range(world)]
        for request in sending:
            request.Cancel()
        raise did_not_come(rank, world, [peer for peer in others if peer not in arrived] or others, timeout)

    return exchange
