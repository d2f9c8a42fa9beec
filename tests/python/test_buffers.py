import array
import ctypes

import numpy as np
import pytest
import ringtree as rt
from ringtree.buffers import as_buffer


def code(name):
    return rt.DTYPES.index(name)


def taken(x, *, writable=True):
    """Address, number of elements and type code that the core would get."""
    buffer = as_buffer(x, writable)
    return buffer.pointer, buffer.count, buffer.dtype


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "int64", "int32", "int8", "uint8", "bool"])
def test_numpy_arrays_are_taken_where_they_lie(name):
    x = np.zeros((3, 5), dtype=name)
    assert taken(x) == (x.ctypes.data, 15, code(name))


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_ml_dtypes_arrays_are_recognised_by_name(name):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    x = np.zeros(7, dtype=getattr(ml_dtypes, name))
    assert taken(x) == (x.ctypes.data, 7, code(name))


@pytest.mark.parametrize("name", rt.DTYPES)
def test_torch_tensors_are_taken_where_they_lie(name):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = torch.zeros(4, 2, dtype=getattr(torch, name))
    assert taken(x) == (x.data_ptr(), 8, code(name))


def test_torch_tensors_elsewhere_or_not_contiguous_are_refused():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    with pytest.raises(rt.InvalidArgument, match="its memory is on meta, and ringtree reaches that of CPUs"):
        as_buffer(torch.zeros(2, device="meta"), writable=True)
    with pytest.raises(rt.InvalidArgument, match=r"not contiguous \(shape \(3, 2\).*pass x.contiguous\(\)"):
        as_buffer(torch.zeros(2, 3).T, writable=True)
    with pytest.raises(rt.InvalidArgument, match=r"its elements are .*complex64; there are float64"):
        as_buffer(torch.zeros(2, dtype=torch.complex64), writable=True)


def test_a_torch_tensor_that_requires_grad_is_changed_only_where_autograd_does_not_look():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = torch.zeros(3, requires_grad=True)
    as_buffer(x, writable=False)
    with pytest.raises(rt.InvalidArgument, match=r"requires grad.*torch.no_grad\(\), or pass x.detach\(\)"):
        as_buffer(x, writable=True)
    with torch.no_grad():
        assert taken(x) == taken(x.detach()) == (x.data_ptr(), 3, code("float32"))
    assert taken(torch.nn.Parameter(x.detach()), writable=False)[1] == 3


def test_a_sparse_torch_tensor_is_refused():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    with pytest.raises(rt.InvalidArgument, match="it has no dense memory"):
        as_buffer(torch.zeros(2, 2).to_sparse(), writable=False)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
def test_a_torch_tensor_that_only_pretends_is_refused():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), pytest.raises(rt.InvalidArgument, match="FakeTensor of 2 elements has no memory"):
        as_buffer(torch.zeros(2), writable=False)


def test_everything_with_the_buffer_protocol_is_taken():
    for x, name in (
        (bytearray(6), "uint8"),
        (array.array("f", [1, 2, 3]), "float32"),
        (memoryview(bytearray(8)).cast("i"), "int32"),
        ((ctypes.c_double * 4)(), "float64"),
    ):
        assert taken(x)[1:] == (len(x), code(name))


def test_dlpack_is_taken_without_a_copy():
    class OnlyDlpack:
        def __init__(self):
            self.values = np.arange(5, dtype=np.int32)

        def __dlpack__(self, **arguments):
            return self.values.__dlpack__(**arguments)

        def __dlpack_device__(self):
            return self.values.__dlpack_device__()

    x = OnlyDlpack()
    assert taken(x, writable=False) == (x.values.ctypes.data, 5, code("int32"))


def test_the_owner_keeps_the_memory_alive():
    x = bytearray(8)
    buffer = as_buffer(x, writable=True)
    with pytest.raises(BufferError):
        x.extend(b"more")  # would move the memory
    del buffer
    x.extend(b"more")


def test_what_shows_its_memory_by_array_interface_is_taken():
    class Shows:
        def __init__(self, values):
            self.__array_interface__ = values.__array_interface__
            self.values = values

    x = Shows(np.arange(4, dtype=np.int64))
    assert taken(x) == (x.values.ctypes.data, 4, code("int64"))


def test_what_is_on_a_cuda_device_has_a_place_there():
    class OnGpu:
        __cuda_array_interface__ = {  # noqa: RUF012
            "data": (4096, False),
            "shape": (2, 3),
            "typestr": "<f4",
            "version": 3,
            "stream": 7,
        }

    buffer = as_buffer(OnGpu(), writable=False)
    assert (buffer.pointer, buffer.count, buffer.dtype) == (4096, 6, code("float32"))
    assert buffer.place == (-1, 7)


def test_dlpack_on_a_gpu_is_refused():
    class OnGpu:
        def __dlpack__(self, **arguments):
            raise AssertionError("must not be asked for")

        def __dlpack_device__(self):
            return (2, 0)

    with pytest.raises(rt.InvalidArgument, match=r"its memory is on DLPack device \(2, 0\)"):
        as_buffer(OnGpu(), writable=False)


def test_read_only_memory_is_an_input_but_no_output():
    x = np.zeros(3)
    x.flags.writeable = False
    for readonly in (x, b"abc"):
        as_buffer(readonly, writable=False)
        with pytest.raises(rt.InvalidArgument, match="read-only"):
            as_buffer(readonly, writable=True)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((4, 4))[:, ::2], r"not C-contiguous \(shape \(4, 2\).*np.ascontiguousarray"),
        (np.asfortranarray(np.zeros((2, 3))), "not C-contiguous"),
        (np.zeros(3, dtype=">f4"), "its elements are float32 in foreign byte order; pass x.astype"),
        (np.zeros(3, dtype=np.complex64), "its elements are complex64; there are float64"),
        (np.zeros(3, dtype="U5"), "its elements are str"),
        ([1.0, 2.0], "it is a list, not an array"),
        (3.0, "it is a float, not an array"),
        (np.float32(3), "it is a float32, not an array"),
        ("text", "it is a str, not an array"),
        (np.frombuffer(bytearray(9), np.uint8)[1:].view(np.float64), "its float64 elements are not aligned"),
        (None, "it is a NoneType, not an array"),
    ],
)
def test_what_cannot_be_reduced_in_place_is_refused_with_advice(x, message):
    with pytest.raises(rt.InvalidArgument, match=message):
        as_buffer(x, writable=True)
