"""The calls between two ranks: send, recv, sendrecv."""

from ringtree._core import Work
from ringtree.buffers import ArrayLike
from ringtree.communicator.caller import Caller


class PointToPoint(Caller):
    """Messages between two ranks, in the order in which they were sent; other ranks take no part.

    Arrays on a GPU are sent and received in the order of the communicator's other calls there (docs/gpu.md).
    So two ranks that both send first and then receive wait for one another if the messages are large, until
    the timeout: sendrecv is for that. If such a call is the first on a GPU, all ranks must make one.
    """

    def send(self, x: ArrayLike, to: int, *, async_op: bool = False) -> Work | None:
        """Send `x` to the rank `to`, which must receive it.

        Args:
            x: array of any shape, contiguous.
            to: another rank.
            async_op: return a Work at once; wait() for it before changing `x`. Without it, `x` may be changed
                as soon as this returns, which a large message does only once it is being received.

        Raises:
            InvalidArgument: this rank's arguments are wrong; nothing was sent.
            Mismatch: the peer receives another size or dtype; names both.
            RankFailure: the peer died or left; `.ranks` names it.
            Timeout: the peer did not receive within `comm.timeout` seconds.
        """
        if not async_op and self._quick.send(x, to):
            return None
        peer = self._peer("send", "to", to)
        buffer = self._input("send", "x", x)
        return self._core.send(
            buffer.pointer, buffer.count, buffer.dtype, peer, async_op, buffer.owner, buffer.place
        )

    def recv(self, x: ArrayLike, source: int, *, async_op: bool = False) -> Work | None:
        """Receive into `x` what the rank `source` sends.

        Args:
            x: array of any shape, contiguous, of the size and dtype that is sent.
            source: another rank.
            async_op: return a Work at once; wait() for it before touching `x`.

        Raises:
            RingtreeError: as send.
        """
        if not async_op and self._quick.recv(x, source):
            return None
        peer = self._peer("recv", "source", source)
        buffer = self._output("recv", "x", x)
        return self._core.recv(
            buffer.pointer, buffer.count, buffer.dtype, peer, async_op, buffer.owner, buffer.place
        )

    def sendrecv(
        self, send: ArrayLike, recv: ArrayLike, *, to: int, source: int, async_op: bool = False
    ) -> Work | None:
        """Send and receive at once, so that ranks may do so in a circle.

        Args:
            send: array for the rank `to`, any shape, contiguous.
            recv: array for what the rank `source` sends, the same dtype, apart from `send` in memory.
            to: another rank.
            source: another rank, which may be the same one.
            async_op: return a Work at once; wait() for it before touching either array.

        Raises:
            RingtreeError: as send.
        """
        if not async_op and self._quick.sendrecv(send, recv, to, source):
            return None
        receiver, sender = self._peer("sendrecv", "to", to), self._peer("sendrecv", "source", source)
        leaving, arriving = self._input("sendrecv", "send", send), self._output("sendrecv", "recv", recv)
        self._check_same_dtype("sendrecv", leaving, arriving, ("send", "recv"))
        self._check_apart("sendrecv", leaving, arriving, ("send", "recv"))
        place = self._place("sendrecv", leaving, arriving)
        return self._core.sendrecv(
            leaving.pointer,
            leaving.count,
            receiver,
            arriving.pointer,
            arriving.count,
            sender,
            leaving.dtype,
            async_op,
            (leaving.owner, arriving.owner),
            place,
        )
