#include "core/reduction.h"

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "core/errors.h"

namespace ringtree {

namespace portable {
extern const ReductionTable kReductionTable;
}

#ifdef __x86_64__
namespace avx2 {
extern const ReductionTable kReductionTable;
}
namespace avx512 {
extern const ReductionTable kReductionTable;
}
#endif

namespace {

std::vector<const ReductionTable*> tables_of_this_machine() {
  std::vector<const ReductionTable*> tables;
#ifdef __x86_64__
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    tables.push_back(&avx512::kReductionTable);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
    tables.push_back(&avx2::kReductionTable);
#endif
  tables.push_back(&portable::kReductionTable);
  return tables;
}

}  // namespace

Span<const ReductionTable* const> reduction_tables() {
  static const std::vector<const ReductionTable*> tables = tables_of_this_machine();
  return {tables.data(), tables.size()};
}

const ReductionTable& reduction_table(const char* name) {
  const std::string_view wanted = name;
  const auto tables = reduction_tables();
  if (wanted.empty()) return *tables.data()[0];
  if (wanted == "portable") return portable::kReductionTable;  // on Arm, too

  std::string offered;
  for (std::size_t i = 0; i < tables.size(); ++i) {
    const ReductionTable& table = *tables.data()[i];
    if (wanted == table.name) return table;
    offered += (i == 0 ? "" : ", ") + std::string(table.name);
  }
  throw InvalidArgument("RINGTREE_SIMD=" + std::string(wanted) +
                        " is not among what this machine can run: " + offered);
}

const ReductionTable& default_reduction_table() {
  static const ReductionTable& table = [&]() -> const ReductionTable& {
    const char* wanted = std::getenv("RINGTREE_SIMD");
    return reduction_table(wanted == nullptr ? "" : wanted);
  }();
  return table;
}

Reduction::Reduction(DType dtype, ReduceOp op, int world, const ReductionTable& table) : world_(world) {
  const auto column = static_cast<std::size_t>(dtype);
  loop_ = table.reduce[static_cast<std::size_t>(op)][column];
  closing_loop_ = op == ReduceOp::avg ? table.average[column] : loop_;
  if (loop_ == nullptr)
    throw InvalidArgument(std::string(name_of(op)) + " is not defined for " + name_of(dtype));
}

void scale(DType dtype, void* destination, const void* source, std::size_t count, double factor,
           const ReductionTable& table) {
  const ScaleLoop loop = table.scale[static_cast<std::size_t>(dtype)];
  if (loop == nullptr) throw InvalidArgument(std::string("no scaling of ") + name_of(dtype));
  loop(destination, source, count, factor);
}

const char* simd_name() { return default_reduction_table().name; }

}  // namespace ringtree
