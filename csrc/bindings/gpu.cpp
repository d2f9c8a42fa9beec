#include "bindings/gpu.h"

#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "communicator/choice.h"
#include "communicator/request.h"
#include "core/errors.h"
#include "core/gpu.h"

namespace py = pybind11;

namespace ringtree {
namespace {

using Address = std::uintptr_t;

struct GpuMemory {
  GpuMemory(std::shared_ptr<std::byte> data_, std::size_t bytes_) : data(std::move(data_)), bytes(bytes_) {}
  GpuMemory(GpuMemory&&) = default;
  GpuMemory& operator=(GpuMemory&&) = delete;
  /// CUDA may wait meanwhile, for kernels that wait for ranks which are other threads.
  ~GpuMemory() {
    if (!data || PyGILState_Check() == 0) return;
    PyThreadState* const thread = PyEval_SaveThread();
    data.reset();
    PyEval_RestoreThread(thread);
  }

  std::shared_ptr<std::byte> data;
  std::size_t bytes;

  Address address() const { return reinterpret_cast<Address>(data.get()); }
};

GpuMemory allocate(std::size_t bytes) { return {gpu_library().allocate(bytes), bytes}; }

void copy(Address to, Address from, std::size_t bytes, GpuStream stream) {
  gpu_library().copy_and_wait(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes,
                              stream);
}

/// Sizes of one call in bytes, as every rank of an even one has them.
GpuTask task_of(const Request& request, int world) {
  GpuTask task;
  const std::size_t share = request.count * size_of(request.dtype);
  const std::size_t all = share * static_cast<std::size_t>(world);
  const auto collective = request.collective;
  const bool cuts_input = collective == Collective::reduce_scatter || collective == Collective::scatter;
  const bool gathers = collective == Collective::all_gather || collective == Collective::gather;
  const bool both = collective == Collective::all_to_all;
  task.in_bytes = cuts_input || both ? all : share;
  task.out_bytes = gathers || both ? all : share;
  task.share = share;
  task.root = request.root;
  task.dtype = request.dtype;
  task.op = request.op;
  return task;
}

/// All ranks of a world on one GPU, launched together.
class World {
 public:
  explicit World(int world)
      : ranks_(gpu_library().open_virtual(world)),
        choice_(Pricing::of_gpu(world, ranks_->piece_bytes(), Pricing::Reach::arrays)) {}

  int world() const { return ranks_->world(); }

  std::string chosen(const std::string& collective, std::size_t bytes) const {
    return catalogue()[choice_.choose(find_collective(collective), bytes, true)].name;
  }

  void prefer(const std::string& collective, const std::vector<std::pair<std::size_t, std::string>>& rules) {
    const Collective which = find_collective(collective);
    choice_.prefer(which, find_rules(which, rules));
  }

  std::string protocol() const { return ranks_->protocol(); }
  int channels() const { return ranks_->channels(); }

  std::optional<std::size_t> packets(const std::string& collective, std::optional<std::size_t> bytes) {
    return std::exchange(packet_bytes_[static_cast<std::size_t>(find_collective(collective))], bytes);
  }

  /// `count` as in Request.
  void run(const std::string& collective, const std::string& algorithm, const std::vector<Address>& in,
           const std::vector<Address>& out, std::size_t count, int dtype, int op, int root, double timeout,
           GpuStream stream) {
    Request request{find_collective(collective)};
    request.count = count;
    request.dtype = static_cast<DType>(dtype);
    request.op = static_cast<ReduceOp>(op);
    request.root = root;
    check(request, 0, world());
    if (in.size() != static_cast<std::size_t>(world()) || out.size() != in.size())
      throw InvalidArgument("virtual ranks: there must be an array for each of the " +
                            std::to_string(world()) + " ranks");
    if (request.op == ReduceOp::premul_sum)
      throw InvalidArgument("virtual ranks: premul_sum needs a factor a rank; scale the arrays instead");
    GpuTask task = task_of(request, world());
    task.algorithm = algorithm == "auto"
                         ? choice_.choose(request.collective, request.priced_bytes(world()), true)
                         : find_algorithm(request.collective, algorithm);
    task.packet_bytes = packet_bytes_[static_cast<std::size_t>(request.collective)];
    task.sequence = task.digest = ++sequence_;
    task.timeout_seconds = timeout;
    std::vector<GpuBuffers> buffers;
    buffers.reserve(in.size());
    for (std::size_t rank = 0; rank < in.size(); ++rank)
      buffers.push_back({reinterpret_cast<const void*>(in[rank]), reinterpret_cast<void*>(out[rank])});
    ranks_->launch(task, buffers, stream);
  }

  /// Throws if a kernel has given up. They must be over.
  void check_fault() const {
    const GpuFault fault = ranks_->fault();
    if (fault.kind == GpuFault::none) return;
    throw Timeout("virtual ranks: call #" + std::to_string(fault.sequence) +
                      " was not complete in time: rank " + std::to_string(fault.peer) +
                      " did not go on. Create new ones.",
                  {fault.peer});
  }

 private:
  std::unique_ptr<VirtualRanks> ranks_;
  Choice choice_;
  std::array<std::optional<std::size_t>, kCollectives> packet_bytes_{};
  std::uint64_t sequence_ = 0;
};

}  // namespace

void define_gpu(py::module_& module) {
  using py::arg;
  using Unlocked = py::call_guard<py::gil_scoped_release>;
  module.def(
      "gpu_count", [] { return gpu_library().devices(); }, Unlocked(), "How many GPUs this process sees.");
  module.def(
      "gpu_name", [](int device) { return gpu_library().describe(device); }, arg("device"), Unlocked(),
      "A GPU, and the versions of CUDA.");
  py::class_<GpuMemory>(module, "GpuMemory", "Memory of a GPU that peers can map.")
      .def_property_readonly("address", &GpuMemory::address)
      .def_readonly("nbytes", &GpuMemory::bytes);
  module.def("gpu_allocate", &allocate, arg("nbytes"), Unlocked(),
             "So many bytes of the current device, all zero.");
  module.def(
      "gpu_room", [](std::size_t bytes) { return gpu_library().room_for(bytes); }, arg("nbytes"), Unlocked(),
      "How many bytes to allocate for an array of so many, so that peers can map it.");
  module.def("gpu_copy", &copy, arg("to"), arg("from_"), arg("nbytes"), arg("stream"), Unlocked(),
             "Copies between host and device, either way, behind what the stream holds; waits for it.");
  py::class_<World>(module, "VirtualRanks", "All ranks of a world on one GPU, launched together.")
      // Not Unlocked: that would hold while pybind11 enters the new object among all others, too.
      .def(py::init([](int world) {
             const py::gil_scoped_release unlocked;
             return std::make_unique<World>(world);
           }),
           arg("world"))
      .def_property_readonly("world", &World::world)
      .def("chosen", &World::chosen, arg("collective"), arg("nbytes"))
      .def("prefer", &World::prefer, arg("collective"), arg("rules"))
      .def("protocol", &World::protocol)
      .def("channels", &World::channels)
      .def("packets", &World::packets, arg("collective"), arg("nbytes"))
      .def("run", &World::run, arg("collective"), arg("algorithm"), arg("in_"), arg("out"), arg("count"),
           arg("dtype"), arg("op"), arg("root"), arg("timeout"), arg("stream"), Unlocked())
      .def("check_fault", &World::check_fault);
}

}  // namespace ringtree
