#include "bindings/quick.h"

#include <exception>
#include <optional>

#include "bindings/arrays.h"
#include "bindings/errors.h"
#include "communicator/communicator.h"

namespace py = pybind11;

namespace ringtree {
namespace {

struct Quick {
  PyObject_HEAD PyObject* owner;  ///< the pybind11 object that keeps `communicator` alive
  Communicator* communicator;
};

Communicator& communicator_of(PyObject* self) { return *reinterpret_cast<Quick*>(self)->communicator; }

std::size_t world_of(PyObject* self) { return static_cast<std::size_t>(communicator_of(self).world()); }

/// Runs `call` without the GIL; its errors become Python's.
template <class Call>
PyObject* made(Call call) {
  std::exception_ptr error;
  PyThreadState* const thread = PyEval_SaveThread();
  try {
    call();
  } catch (...) {
    error = std::current_exception();
  }
  PyEval_RestoreThread(thread);
  if (!error) Py_RETURN_TRUE;
  set_python_error(error);
  return nullptr;
}

PyObject* run(PyObject* self, const Request& request) {
  return made([&] { communicator_of(self).run(request, false, nullptr); });
}

PyObject* not_made() { Py_RETURN_FALSE; }

/// The operation that the string `name` says. Not premul_sum, which needs a factor.
std::optional<ReduceOp> op_of(PyObject* name) {
  if (!PyUnicode_CheckExact(name)) return std::nullopt;
  for (std::size_t i = 0; i < kReduceOps; ++i)
    if (PyUnicode_CompareWithASCIIString(name, kReduceOpNames[i]) == 0)
      return static_cast<ReduceOp>(i) == ReduceOp::premul_sum ? std::nullopt
                                                              : std::optional(static_cast<ReduceOp>(i));
  return std::nullopt;
}

std::optional<int> rank_of(PyObject* self, PyObject* number) {
  if (!PyLong_CheckExact(number)) return std::nullopt;
  int overflow = 0;
  const long rank = PyLong_AsLongAndOverflow(number, &overflow);
  if (overflow != 0 || rank < 0 || rank >= communicator_of(self).world()) return std::nullopt;
  return static_cast<int>(rank);
}

PyObject* all_reduce(PyObject* self, PyObject* const* arguments, Py_ssize_t /*count*/) {
  const auto x = plain_array(arguments[0], true);
  const auto op = op_of(arguments[1]);
  if (!x || !op) return not_made();
  Request request{Collective::all_reduce, x->data, x->data, x->count, x->dtype};
  request.op = *op;
  return run(self, request);
}

PyObject* reduce(PyObject* self, PyObject* const* arguments, Py_ssize_t /*count*/) {
  const auto root = rank_of(self, arguments[1]);
  const auto op = op_of(arguments[2]);
  if (!root || !op) return not_made();
  const auto x = plain_array(arguments[0], *root == communicator_of(self).rank());
  if (!x) return not_made();
  Request request{Collective::reduce, x->data, x->data, x->count, x->dtype};
  request.op = *op;
  request.root = *root;
  return run(self, request);
}

PyObject* broadcast(PyObject* self, PyObject* const* arguments, Py_ssize_t /*count*/) {
  const auto root = rank_of(self, arguments[1]);
  if (!root) return not_made();
  const auto x = plain_array(arguments[0], *root != communicator_of(self).rank());
  if (!x) return not_made();
  Request request{Collective::broadcast, x->data, x->data, x->count, x->dtype};
  request.root = *root;
  return run(self, request);
}

PyObject* all_gather(PyObject* self, PyObject* const* arguments, Py_ssize_t /*count*/) {
  const auto out = plain_array(arguments[0], true), x = plain_array(arguments[1], false);
  if (!out || !x || out->dtype != x->dtype || out->count != x->count * world_of(self) || out->overlaps(*x))
    return not_made();
  return run(self, {Collective::all_gather, x->data, out->data, x->count, x->dtype});
}

PyObject* reduce_scatter(PyObject* self, PyObject* const* arguments, Py_ssize_t /*count*/) {
  const auto out = plain_array(arguments[0], true), x = plain_array(arguments[1], false);
  const auto op = op_of(arguments[2]);
  if (!out || !x || !op || out->dtype != x->dtype || x->count != out->count * world_of(self) ||
      out->overlaps(*x))
    return not_made();
  Request request{Collective::reduce_scatter, x->data, out->data, out->count, x->dtype};
  request.op = *op;
  return run(self, request);
}

PyObject* all_to_all(PyObject* self, PyObject* const* arguments, Py_ssize_t /*count*/) {
  const auto out = plain_array(arguments[0], true), x = plain_array(arguments[1], false);
  if (!out || !x || out->dtype != x->dtype || out->count != x->count || x->count % world_of(self) != 0 ||
      out->overlaps(*x))
    return not_made();
  return run(self, {Collective::all_to_all, x->data, out->data, x->count / world_of(self), x->dtype});
}

/// gather and scatter: `whole` is the root's array of everybody's `part`; elsewhere it is ignored.
PyObject* run_rooted(PyObject* self, Collective collective, PyObject* whole, PyObject* part, int root) {
  const bool gathers = collective == Collective::gather, is_root = root == communicator_of(self).rank();
  const auto own = plain_array(part, !gathers);
  if (!own) return not_made();
  std::byte* everything = nullptr;
  if (is_root) {
    const auto found = plain_array(whole, gathers);
    if (!found || found->dtype != own->dtype || found->count != own->count * world_of(self) ||
        found->overlaps(*own))
      return not_made();
    everything = found->data;
  }
  Request request{collective, gathers ? own->data : everything, gathers ? everything : own->data, own->count,
                  own->dtype};
  request.root = root;
  return run(self, request);
}

PyObject* gather(PyObject* self, PyObject* const* arguments, Py_ssize_t /*count*/) {
  const auto root = rank_of(self, arguments[2]);
  return root ? run_rooted(self, Collective::gather, arguments[0], arguments[1], *root) : not_made();
}

PyObject* scatter(PyObject* self, PyObject* const* arguments, Py_ssize_t /*count*/) {
  const auto root = rank_of(self, arguments[2]);
  return root ? run_rooted(self, Collective::scatter, arguments[1], arguments[0], *root) : not_made();
}

PyObject* barrier(PyObject* self, PyObject* /*none*/) { return run(self, {Collective::barrier}); }

template <bool kOutgoing>
PyObject* message(PyObject* self, PyObject* const* arguments, Py_ssize_t /*count*/) {
  const auto peer = rank_of(self, arguments[1]);
  const auto x = plain_array(arguments[0], !kOutgoing);
  if (!peer || !x) return not_made();
  return made([&] {
    communicator_of(self).exchange({{kOutgoing, *peer, x->data, x->count, x->dtype}}, false, nullptr);
  });
}

PyObject* sendrecv(PyObject* self, PyObject* const* arguments, Py_ssize_t /*count*/) {
  const auto sent = plain_array(arguments[0], false), received = plain_array(arguments[1], true);
  const auto to = rank_of(self, arguments[2]), source = rank_of(self, arguments[3]);
  if (!sent || !received || !to || !source || sent->dtype != received->dtype || sent->overlaps(*received))
    return not_made();
  return made([&] {
    communicator_of(self).exchange({{true, *to, sent->data, sent->count, sent->dtype},
                                    {false, *source, received->data, received->count, received->dtype}},
                                   false, nullptr);
  });
}

using Method = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t);

/// Checks the number of arguments, which all these methods then rely on.
template <Method kMethod, Py_ssize_t kArguments>
PyObject* counted(PyObject* self, PyObject* const* arguments, Py_ssize_t count) {
  if (count == kArguments) return kMethod(self, arguments, count);
  PyErr_Format(PyExc_TypeError, "%zd arguments where %zd are due", count, kArguments);
  return nullptr;
}

template <Method kMethod, Py_ssize_t kArguments>
PyMethodDef defined(const char* name) {
  return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&counted<kMethod, kArguments>)),
          METH_FASTCALL, nullptr};
}

PyObject* create(PyTypeObject* type, PyObject* arguments, PyObject* /*keywords*/) {
  PyObject* core = nullptr;
  if (!PyArg_ParseTuple(arguments, "O", &core)) return nullptr;
  if (!py::isinstance<Communicator>(core)) {
    PyErr_SetString(PyExc_TypeError, "Quick() takes a _core.Communicator");
    return nullptr;
  }
  auto* self = reinterpret_cast<Quick*>(type->tp_alloc(type, 0));
  if (self == nullptr) return nullptr;
  Py_INCREF(core);
  self->owner = core;
  self->communicator = py::cast<Communicator*>(py::handle(core));
  return reinterpret_cast<PyObject*>(self);
}

void destroy(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  Py_XDECREF(reinterpret_cast<Quick*>(self)->owner);
  type->tp_free(self);
  Py_DECREF(type);
}

}  // namespace

void define_quick(py::module_& module) {
  static PyMethodDef methods[] = {
      defined<all_reduce, 2>("all_reduce"),
      defined<reduce, 3>("reduce"),
      defined<broadcast, 2>("broadcast"),
      defined<all_gather, 2>("all_gather"),
      defined<reduce_scatter, 3>("reduce_scatter"),
      defined<all_to_all, 2>("all_to_all"),
      defined<gather, 3>("gather"),
      defined<scatter, 3>("scatter"),
      {"barrier", &barrier, METH_NOARGS, nullptr},
      defined<message<true>, 2>("send"),
      defined<message<false>, 2>("recv"),
      defined<sendrecv, 4>("sendrecv"),
      {nullptr, nullptr, 0, nullptr},
  };
  static PyType_Slot slots[] = {
      {Py_tp_new, reinterpret_cast<void*>(&create)},
      {Py_tp_dealloc, reinterpret_cast<void*>(&destroy)},
      {Py_tp_methods, methods},
      {0, nullptr},
  };
  static PyType_Spec spec{"ringtree._core.Quick", sizeof(Quick), 0, Py_TPFLAGS_DEFAULT, slots};
  PyObject* type = PyType_FromSpec(&spec);
  if (type == nullptr) throw py::error_already_set();
  module.attr("Quick") = py::reinterpret_steal<py::object>(type);
}

}  // namespace ringtree
