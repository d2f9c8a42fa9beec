# The compiled core. Addresses and codes, no arrays and no names: ringtree.communicator translates.

from collections.abc import Callable, Sequence

__version__: str
DTYPES: tuple[str, ...]  # the place of a name is its integer code
ITEMSIZES: tuple[int, ...]  # bytes of one element, by code
OPS: tuple[str, ...]
COLLECTIVES: tuple[str, ...]
TRANSPORTS: tuple[str, ...]

def algorithms(collective: str) -> list[str]:
    """Names of the algorithms of a collective, as `algorithm=` takes them.

    Raises:
        InvalidArgument: there is no such collective.
    """

def cost(collective: str, algorithm: str, world: int, nbytes: int, piece_bytes: float | None = None) -> Cost:
    """What an algorithm declares about one call; csrc/schedule/cost.h says how it counts `nbytes`.

    `piece_bytes`: what crosses at once, if not a slot's share of the layout for `world` ranks on one host.
    """

def step_constants(oversubscribed: bool) -> tuple[float, float]:
    """By which algorithms are chosen: microseconds of a step, and bytes moved in a microsecond."""

def address(buffer: object, writable: bool) -> int:
    """Where the memory of an object with the buffer protocol begins.

    Raises:
        BufferError: it is not C-contiguous, or is read-only where it must be writable.
    """

def observe(pid: int) -> list[str]:
    """The snapshots, as JSON, of the communicators that a process is in, taken from outside.

    Raises:
        TransportError: there is no such process, or its memory may not be read.
    """

class Block:
    """Memory that peers can map: a writable buffer of bytes."""

    def __buffer__(self, flags: int, /) -> memoryview: ...

def allocate(nbytes: int) -> Block:
    """A block of so many bytes, of whatever content.

    Raises:
        TransportError: there is not so much memory.
    """

def simd() -> str:
    """The instruction set of the reduction loops."""

class RingtreeError(Exception):
    ranks: tuple[int, ...]

class InvalidArgument(RingtreeError, ValueError): ...
class Mismatch(RingtreeError): ...
class Timeout(RingtreeError, TimeoutError): ...
class RankFailure(RingtreeError, ConnectionError): ...
class Aborted(RingtreeError): ...
class TransportError(RingtreeError, OSError): ...

class Cost:
    @property
    def steps(self) -> float: ...
    @property
    def bytes_per_link(self) -> float: ...
    @property
    def moved_bytes(self) -> float: ...

class Work:
    """A call that may still be under way."""

    def wait(self, timeout: float | None = None) -> None:
        """Return once the call is finished; raise what it raised.

        Raises:
            Timeout: `timeout` seconds have passed. The call goes on, and the communicator stays usable.
        """

    def done(self) -> bool:
        """Whether wait() would return, or raise, at once."""

class Communicator:
    """Calls by address. Blocking ones return None; `keep` is held until an asynchronous one is finished."""

    def __init__(
        self,
        transport: str,
        rank: int,
        world: int,
        timeout: float,
        exchange: Callable[[bytes], Sequence[bytes]],
    ) -> None: ...
    @property
    def rank(self) -> int: ...
    @property
    def world(self) -> int: ...
    @property
    def timeout(self) -> float: ...
    @property
    def transport(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    def all_reduce(
        self,
        in_: int,
        out: int,
        count: int,
        dtype: int,
        op: int,
        factor: float,
        algorithm: str,
        async_op: bool,
        keep: object,
        place: tuple[int, int] | None = None,
    ) -> Work | None: ...
    def reduce(
        self,
        in_: int,
        out: int,
        count: int,
        dtype: int,
        op: int,
        factor: float,
        root: int,
        algorithm: str,
        async_op: bool,
        keep: object,
        place: tuple[int, int] | None = None,
    ) -> Work | None: ...
    def broadcast(
        self,
        data: int,
        count: int,
        dtype: int,
        root: int,
        algorithm: str,
        async_op: bool,
        keep: object,
        place: tuple[int, int] | None = None,
    ) -> Work | None: ...
    def all_gather(
        self,
        in_: int,
        out: int,
        counts: Sequence[int],
        dtype: int,
        algorithm: str,
        async_op: bool,
        keep: object,
        place: tuple[int, int] | None = None,
    ) -> Work | None: ...
    def reduce_scatter(
        self,
        in_: int,
        out: int,
        counts: Sequence[int],
        dtype: int,
        op: int,
        factor: float,
        algorithm: str,
        async_op: bool,
        keep: object,
        place: tuple[int, int] | None = None,
    ) -> Work | None: ...
    def all_to_all(
        self,
        in_: int,
        out: int,
        count: int,
        dtype: int,
        algorithm: str,
        async_op: bool,
        keep: object,
        place: tuple[int, int] | None = None,
    ) -> Work | None: ...
    def all_to_all_v(
        self,
        in_: int,
        out: int,
        in_counts: Sequence[int],
        out_counts: Sequence[int],
        dtype: int,
        algorithm: str,
        async_op: bool,
        keep: object,
        place: tuple[int, int] | None = None,
    ) -> Work | None: ...
    def gather(
        self,
        in_: int,
        out: int,
        count: int,
        dtype: int,
        root: int,
        algorithm: str,
        async_op: bool,
        keep: object,
        place: tuple[int, int] | None = None,
    ) -> Work | None: ...
    def scatter(
        self,
        in_: int,
        out: int,
        count: int,
        dtype: int,
        root: int,
        algorithm: str,
        async_op: bool,
        keep: object,
        place: tuple[int, int] | None = None,
    ) -> Work | None: ...
    def barrier(self, algorithm: str, async_op: bool) -> Work | None: ...
    def send(
        self,
        data: int,
        count: int,
        dtype: int,
        to: int,
        async_op: bool,
        keep: object,
        place: tuple[int, int] | None = None,
    ) -> Work | None: ...
    def recv(
        self,
        data: int,
        count: int,
        dtype: int,
        source: int,
        async_op: bool,
        keep: object,
        place: tuple[int, int] | None = None,
    ) -> Work | None: ...
    def sendrecv(
        self,
        in_: int,
        in_count: int,
        to: int,
        out: int,
        out_count: int,
        source: int,
        dtype: int,
        async_op: bool,
        keep: object,
        place: tuple[int, int] | None = None,
    ) -> Work | None: ...
    def chosen(self, collective: str, nbytes: int) -> str:
        """What "auto" takes."""

    def chosen_on_gpu(self, collective: str, nbytes: int) -> str:
        """What "auto" takes of arrays on a GPU, once there has been a call on one."""

    def staged(self) -> bool:
        """Whether messages between GPUs go through memory of the host, once there has been a call on one."""

    def protocol(self) -> str:
        """How messages travel between GPUs, `lines up to 256 KiB`, once there has been a call on one."""

    def channels(self) -> int:
        """The most thread blocks of one call, for each rank, once there has been a call on a GPU."""

    def packets_on_gpu(self, collective: str, nbytes: int | None) -> int | None:
        """Let calls of up to so many bytes of arrays on a GPU go in packets; None: as many as by default.

        Returns what held before.
        """

    def prefer_on_gpu(self, collective: str, rules: Sequence[tuple[int, str]]) -> None:
        """As `prefer`, for arrays on a GPU."""

    def prefer(self, collective: str, rules: Sequence[tuple[int, str]]) -> None:
        """Let "auto" take an algorithm up to so many bytes, ascending; the last rule covers all above."""

    def force(self, collective: str, algorithm: str) -> None:
        """Let "auto" take this algorithm and no other."""

    def inject(self, faults: str) -> None: ...
    def snapshot(self) -> str:
        """What all ranks do at this moment, as JSON."""

    def survivors(self) -> list[int]: ...
    def exchange_with(self, members: Sequence[int], own: bytes) -> list[bytes]: ...
    def synchronize(self) -> None: ...
    def abort(self, reason: str) -> None: ...
    def close(self) -> None: ...

class Quick:
    """The short way for blocking calls on plain arrays: each returns whether it made the call.

    If not, nothing has happened: the arrays, or what is asked, are not for this way. Errors are those of
    Communicator's methods.
    """

    def __init__(self, core: Communicator) -> None: ...
    def all_reduce(self, x: object, op: object, /) -> bool: ...
    def reduce(self, x: object, root: object, op: object, /) -> bool: ...
    def broadcast(self, x: object, root: object, /) -> bool: ...
    def all_gather(self, out: object, x: object, /) -> bool: ...
    def reduce_scatter(self, out: object, x: object, op: object, /) -> bool: ...
    def all_to_all(self, out: object, x: object, /) -> bool: ...
    def gather(self, out: object, x: object, root: object, /) -> bool: ...
    def scatter(self, out: object, x: object, root: object, /) -> bool: ...
    def barrier(self) -> bool: ...
    def send(self, x: object, to: object, /) -> bool: ...
    def recv(self, x: object, source: object, /) -> bool: ...
    def sendrecv(self, send: object, recv: object, to: object, source: object, /) -> bool: ...

def gpu_count() -> int: ...
def gpu_name(device: int) -> str: ...

class GpuMemory:
    @property
    def address(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

def gpu_allocate(nbytes: int) -> GpuMemory: ...
def gpu_room(nbytes: int) -> int: ...
def gpu_copy(to: int, from_: int, nbytes: int, stream: int) -> None: ...

class VirtualRanks:
    def __init__(self, world: int) -> None: ...
    @property
    def world(self) -> int: ...
    def chosen(self, collective: str, nbytes: int) -> str: ...
    def prefer(self, collective: str, rules: Sequence[tuple[int, str]]) -> None: ...
    def packets(self, collective: str, nbytes: int | None) -> int | None: ...
    def protocol(self) -> str: ...
    def channels(self) -> int: ...
    def run(
        self,
        collective: str,
        algorithm: str,
        in_: list[int],
        out: list[int],
        count: int,
        dtype: int,
        op: int,
        root: int,
        timeout: float,
        stream: int,
    ) -> None: ...
    def check_fault(self) -> None: ...

def gpu_use(device: int) -> None: ...
def gpu_current() -> int: ...
def gpu_bus(device: int) -> str: ...
def gpu_enqueue_copy(to: int, from_: int, nbytes: int, stream: int) -> None: ...
def gpu_synchronize(stream: int) -> None: ...
def gpu_launch_empty(stream: int) -> None: ...
def gpu_round_trips(count: int, stream: int) -> float: ...
def gpu_begin_recording(stream: int) -> None: ...
def gpu_end_recording(stream: int) -> GpuGraph: ...

class GpuGraph:
    def replay(self, stream: int) -> None: ...

class GpuStream:
    def __init__(self) -> None: ...
    @property
    def handle(self) -> int: ...

class GpuTimer:
    def __init__(self) -> None: ...
    def start(self, stream: int) -> None: ...
    def stop(self, stream: int) -> None: ...
    @property
    def seconds(self) -> float: ...
