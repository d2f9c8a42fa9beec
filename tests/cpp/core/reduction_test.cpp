#include "core/reduction.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "core/errors.h"
#include "core/small_float_reference.h"

namespace ringtree {
namespace {

using Bytes = std::vector<std::byte>;

constexpr int kWorld = 7;               // no power of two, so that an average has to round
constexpr std::size_t kLargest = 4201;  // elements: more than a tile of any type, and odd
constexpr std::size_t kCounts[] = {0, 1, 2, 15, 33, 1027, kLargest};

std::vector<const ReductionTable*> tables() {
  const auto all = reduction_tables();
  return {all.data(), all.data() + all.size()};
}

// The reference computes with the widest type there is, one element at a time.

template <class T>
double value_of(T element) {
  if constexpr (std::is_floating_point_v<T>)
    return static_cast<double>(element);
  else
    return reference_of<T>().value(element.bits);
}

/// `value` as the accumulator of T has it: double holds the exact sum, product or quotient of two float32
/// closely enough that rounding it again gives what float32 arithmetic gives.
template <class T>
double accumulated(double value) {
  return std::is_same_v<T, double> ? value : static_cast<double>(static_cast<float>(value));
}

template <class T>
T rounded(double value) {
  if constexpr (std::is_floating_point_v<T>)
    return std::isnan(value) ? std::numeric_limits<T>::quiet_NaN() : static_cast<T>(value);
  else
    return T{static_cast<decltype(T::bits)>(reference_of<T>().nearest(value))};
}

double combined(ReduceOp op, double left, double right) {
  switch (op) {
    case ReduceOp::prod: return left * right;
    case ReduceOp::min: return std::isnan(left) || std::isnan(right) ? NAN : right < left ? right : left;
    case ReduceOp::max: return std::isnan(left) || std::isnan(right) ? NAN : right > left ? right : left;
    default: return left + right;
  }
}

std::int64_t combined(ReduceOp op, std::int64_t left, std::int64_t right) {
  const auto a = static_cast<std::uint64_t>(left), b = static_cast<std::uint64_t>(right);
  switch (op) {
    case ReduceOp::prod: return static_cast<std::int64_t>(a * b);
    case ReduceOp::min: return std::min(left, right);
    case ReduceOp::max: return std::max(left, right);
    case ReduceOp::band: return left & right;
    case ReduceOp::bor: return left | right;
    case ReduceOp::bxor: return left ^ right;
    default: return static_cast<std::int64_t>(a + b);
  }
}

bool combined(ReduceOp op, bool left, bool right) {
  switch (op) {
    case ReduceOp::sum:
    case ReduceOp::max:
    case ReduceOp::bor: return left || right;
    case ReduceOp::bxor: return left != right;
    default: return left && right;
  }
}

template <class T>
T expected_element(ReduceOp op, const std::vector<T>& elements, bool closes) {
  if constexpr (std::is_same_v<T, Bool>) {
    bool result = elements[0].bits != 0;
    for (std::size_t i = 1; i < elements.size(); ++i) result = combined(op, result, elements[i].bits != 0);
    return Bool{result};
  } else if constexpr (std::is_integral_v<T>) {
    std::int64_t result = elements[0];
    for (std::size_t i = 1; i < elements.size(); ++i)
      result = static_cast<T>(combined(op, result, std::int64_t{elements[i]}));
    return static_cast<T>(result);
  } else {
    double result = value_of(elements[0]);
    for (std::size_t i = 1; i < elements.size(); ++i)
      result = accumulated<T>(combined(op, result, value_of(elements[i])));
    if (op == ReduceOp::avg && closes) result = accumulated<T>(result / kWorld);
    return rounded<T>(result);
  }
}

/// Everyday numbers, so that sums and products stay finite. Of floats one in eight is any bits at all, and
/// another a zero of either sign, which only their bits tell apart.
template <class T>
std::vector<T> random_elements(std::mt19937_64& random, std::size_t count) {
  std::vector<T> elements(count);
  for (T& element : elements) {
    const std::uint64_t word = random();
    if constexpr (std::is_same_v<T, Bool>) {
      element = Bool{static_cast<std::uint8_t>(word % 2)};
    } else if constexpr (std::is_integral_v<T>) {
      element = static_cast<T>(word);
    } else if (word % 8 == 0) {
      const std::uint64_t bits = random();
      std::memcpy(&element, &bits, sizeof element);
    } else if (word % 8 == 1) {
      element = rounded<T>(word % 16 == 1 ? 0.0 : -0.0);
    } else {
      element = rounded<T>(static_cast<double>(static_cast<std::int64_t>(word)) * 0x1p-61);  // -4 to 4
    }
  }
  return elements;
}

template <class T>
std::vector<const void*> pointers(const std::vector<std::vector<T>>& sources) {
  std::vector<const void*> result;
  for (const auto& source : sources) result.push_back(source.data());
  return result;
}

template <class T>
Bytes bytes_of(const std::vector<T>& elements) {
  const auto* begin = reinterpret_cast<const std::byte*>(elements.data());
  return {begin, begin + elements.size() * sizeof(T)};
}

template <DType kTheDType, class T>
struct Typed {
  static constexpr DType kDType = kTheDType;
  using Storage = T;
};

template <class First, class... Rest>
using TypesAfter = testing::Types<Rest...>;
#define RINGTREE_AND_TYPED(dtype, name, Storage) , Typed<DType::dtype, Storage>
using EveryType = TypesAfter<void RINGTREE_DTYPES(RINGTREE_AND_TYPED)>;
#undef RINGTREE_AND_TYPED

struct Names {
  template <class T>
  static std::string GetName(int) {
    return name_of(T::kDType);
  }
};

template <class Type>
class Reductions : public testing::Test {
 protected:
  using T = typename Type::Storage;
  static constexpr DType kDType = Type::kDType;

  std::mt19937_64 random_{42};

  std::vector<std::vector<T>> random_sources(int n_sources, std::size_t count) {
    std::vector<std::vector<T>> sources;
    for (int i = 0; i < n_sources; ++i) sources.push_back(random_elements<T>(random_, count));
    return sources;
  }

  static std::vector<T> expected(ReduceOp op, const std::vector<std::vector<T>>& sources, bool closes) {
    std::vector<T> result;
    for (std::size_t i = 0; i < sources[0].size(); ++i) {
      std::vector<T> column;
      for (const auto& source : sources) column.push_back(source[i]);
      result.push_back(expected_element(op, column, closes));
    }
    return result;
  }

  /// body(op, reduction, closes, table's name) for every operation, in plain and closing form.
  template <class Body>
  static void for_every_reduction(const ReductionTable& table, Body body) {
    for (std::size_t code = 0; code < kReduceOps; ++code) {
      const auto op = static_cast<ReduceOp>(code);
      if (!supports(op, kDType)) continue;
      SCOPED_TRACE(std::string(name_of(op)) + " with " + table.name);
      const Reduction reduction(kDType, op, kWorld, table);
      body(op, reduction, false);
      body(op, reduction.closing(), true);
    }
  }
};

TYPED_TEST_SUITE(Reductions, EveryType, Names);

TYPED_TEST(Reductions, EqualAScalarReferenceToTheBit) {
  using T = typename TypeParam::Storage;
  for (int n_sources = 2; n_sources <= 9; ++n_sources) {
    const auto sources = this->random_sources(n_sources, kLargest);
    for (std::size_t code = 0; code < kReduceOps; ++code) {
      const auto op = static_cast<ReduceOp>(code);
      if (!supports(op, this->kDType)) continue;
      for (const bool closes : {false, true}) {
        const Bytes expected = bytes_of(this->expected(op, sources, closes));
        for (const ReductionTable* table : tables()) {
          Reduction reduction(this->kDType, op, kWorld, *table);
          if (closes) reduction = reduction.closing();
          for (const std::size_t count : kCounts) {
            std::vector<T> result(count);
            reduction(result.data(), pointers(sources).data(), n_sources, count);
            const Bytes prefix(expected.begin(),
                               expected.begin() + static_cast<std::ptrdiff_t>(count * sizeof(T)));
            ASSERT_EQ(bytes_of(result), prefix)
                << name_of(op) << (closes ? ", closing" : "") << " with " << table->name << ", " << n_sources
                << " sources of " << count;
          }
        }
      }
    }
  }
}

TYPED_TEST(Reductions, GiveTheSameBitsWithEveryInstructionSet) {
  using T = typename TypeParam::Storage;
  for (const int n_sources : {2, 3, 5}) {
    std::vector<std::vector<T>> sources(static_cast<std::size_t>(n_sources), std::vector<T>(kLargest));
    for (auto& source : sources)
      for (T& element : source) {
        const std::uint64_t word = this->random_();
        std::memcpy(&element, &word, sizeof element);
      }
    std::vector<std::vector<Bytes>> results;
    for (const ReductionTable* table : tables()) {
      results.emplace_back();
      this->for_every_reduction(*table, [&](ReduceOp, const Reduction& reduction, bool) {
        std::vector<T> result(kLargest);
        reduction(result.data(), pointers(sources).data(), n_sources, kLargest);
        results.back().push_back(bytes_of(result));
      });
      EXPECT_EQ(results.back(), results.front()) << table->name << " against " << tables().front()->name;
    }
  }
}

TYPED_TEST(Reductions, WorkInPlaceOfAnySource) {
  for (const ReductionTable* table : tables())
    this->for_every_reduction(*table, [&](ReduceOp, const Reduction& reduction, bool) {
      for (const int n_sources : {1, 2, 3, 5}) {
        const auto sources = this->random_sources(n_sources, kLargest);
        auto apart = sources[0];
        reduction(apart.data(), pointers(sources).data(), n_sources, kLargest);
        for (std::size_t place = 0; place < sources.size(); ++place) {
          auto buffers = sources;
          reduction(buffers[place].data(), pointers(buffers).data(), n_sources, kLargest);
          ASSERT_EQ(bytes_of(buffers[place]), bytes_of(apart))
              << n_sources << " sources, in place of " << place;
        }
      }
    });
}

TYPED_TEST(Reductions, NeedNoAlignment) {
  using T = typename TypeParam::Storage;
  for (const ReductionTable* table : tables())
    this->for_every_reduction(*table, [&](ReduceOp, const Reduction& reduction, bool) {
      const auto sources = this->random_sources(3, kLargest);
      for (int n_sources = 1; n_sources <= 3; ++n_sources) {
        std::vector<T> aligned(kLargest);
        reduction(aligned.data(), pointers(sources).data(), n_sources, kLargest);

        constexpr std::size_t kBytes = kLargest * sizeof(T);
        std::vector<Bytes> shifted;
        std::vector<const void*> addresses;
        for (std::size_t i = 0; i < sources.size(); ++i) {
          shifted.emplace_back(kBytes + 2 * i + 1);
          std::memcpy(shifted[i].data() + 2 * i + 1, sources[i].data(), kBytes);
          addresses.push_back(shifted[i].data() + 2 * i + 1);
        }
        Bytes result(kBytes + 3);
        reduction(result.data() + 3, addresses.data(), n_sources, kLargest);
        ASSERT_EQ(Bytes(result.begin() + 3, result.end()), bytes_of(aligned)) << n_sources << " sources";
      }
    });
}

TYPED_TEST(Reductions, WriteNothingBeyondTheirCount) {
  using T = typename TypeParam::Storage;
  for (const ReductionTable* table : tables())
    this->for_every_reduction(*table, [&](ReduceOp, const Reduction& reduction, bool) {
      const auto sources = this->random_sources(3, kLargest);
      for (const int n_sources : {1, 2, 3})
        for (const std::size_t count : kCounts) {
          constexpr std::byte kUntouched{0xA5};
          Bytes result(kLargest * sizeof(T) + 64, kUntouched);
          reduction(result.data(), pointers(sources).data(), n_sources, count);
          for (std::size_t i = count * sizeof(T); i < result.size(); ++i)
            ASSERT_EQ(result[i], kUntouched) << i;
        }
    });
}

TYPED_TEST(Reductions, CopyASingleSourceAsItIs) {
  using T = typename TypeParam::Storage;
  const auto sources = this->random_sources(1, kLargest);
  for (const ReductionTable* table : tables())
    this->for_every_reduction(*table, [&](ReduceOp op, const Reduction& reduction, bool closes) {
      std::vector<T> result(kLargest);
      reduction(result.data(), pointers(sources).data(), 1, kLargest);
      if (op == ReduceOp::avg && closes)
        EXPECT_EQ(bytes_of(result), bytes_of(this->expected(op, sources, closes)));
      else
        EXPECT_EQ(bytes_of(result), bytes_of(sources[0]));
    });
}

TYPED_TEST(Reductions, ExistExactlyWhereSupportsSaysSo) {
  for (const ReductionTable* table : tables())
    for (std::size_t code = 0; code < kReduceOps; ++code) {
      const auto op = static_cast<ReduceOp>(code);
      if (supports(op, this->kDType)) {
        EXPECT_NO_THROW(Reduction(this->kDType, op, kWorld, *table)) << name_of(op);
      } else {
        const std::string text = std::string(name_of(op)) + " is not defined for " + name_of(this->kDType);
        try {
          const Reduction reduction(this->kDType, op, kWorld, *table);
          FAIL() << text;
        } catch (const InvalidArgument& error) {
          EXPECT_EQ(error.what(), text);
        }
      }
    }
}

TYPED_TEST(Reductions, ScaleFloatsAndRoundOnce) {
  using T = typename TypeParam::Storage;
  const auto source = random_elements<T>(this->random_, kLargest);
  for (const ReductionTable* table : tables()) {
    std::vector<T> result(kLargest);
    if constexpr (is_float(TypeParam::kDType)) {
      for (const double factor : {1.0 / 3, 1e-3, -2.0}) {
        std::vector<T> expected;
        for (const T element : source)
          expected.push_back(rounded<T>(accumulated<T>(value_of(element) * accumulated<T>(factor))));
        scale(this->kDType, result.data(), source.data(), kLargest, factor, *table);
        EXPECT_EQ(bytes_of(result), bytes_of(expected)) << table->name << ", " << factor;

        auto in_place = source;
        scale(this->kDType, in_place.data(), in_place.data(), kLargest, factor, *table);
        EXPECT_EQ(bytes_of(in_place), bytes_of(expected)) << table->name << ", " << factor;
      }
    } else {
      EXPECT_THROW(scale(this->kDType, result.data(), source.data(), kLargest, 2.0, *table), InvalidArgument);
    }
  }
}

// 1 + 2^-9 is no bfloat16: rounded after each source, three such steps would be lost.
TEST(Reduction, SmallFloatsAreRoundedOnceForAllSources) {
  const BFloat16 one{0x3F80}, step{0x3B00};
  const void* sources[] = {&one, &step, &step, &step, &step};
  BFloat16 result{};
  Reduction(DType::bfloat16, ReduceOp::sum, kWorld)(&result, sources, 5, 1);
  EXPECT_EQ(widen(result), 1.0F + 4 * 0x1p-9F);
}

TEST(Reduction, AveragesAreSumsUntilTheyClose) {
  const float a = 1, b = 6;
  const void* sources[] = {&a, &b};
  float result = 0;
  const Reduction average(DType::float32, ReduceOp::avg, kWorld);
  average(&result, sources, 2, 1);
  EXPECT_EQ(result, 7);
  average.closing()(&result, sources, 2, 1);
  EXPECT_EQ(result, 1);
}

TEST(InstructionSets, EndWithThePortableOne) {
  ASSERT_FALSE(tables().empty());
  EXPECT_EQ(tables().back(), &reduction_table("portable"));
}

TEST(InstructionSets, AreFoundByNameAndTheFastestByNone) {
  for (const ReductionTable* table : tables()) EXPECT_EQ(&reduction_table(table->name), table);
  EXPECT_EQ(&reduction_table(""), tables().front());
}

TEST(InstructionSets, ThatAreUnknownAreRefusedWithTheOnesThereAre) {
  std::string offered;
  for (const ReductionTable* table : tables())
    offered += (offered.empty() ? "" : ", ") + std::string(table->name);
  try {
    reduction_table("mmx");
    FAIL();
  } catch (const InvalidArgument& error) {
    EXPECT_EQ(error.what(), "RINGTREE_SIMD=mmx is not among what this machine can run: " + offered);
  }
}

// In processes of their own, because the variable is read once.
TEST(InstructionSetsDeathTest, ObeyTheEnvironment) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto in_use_when = [](const char* wanted) {
    setenv("RINGTREE_SIMD", wanted, 1);
    try {
      return std::string(simd_name());
    } catch (const InvalidArgument& error) {
      return std::string(error.what());
    }
  };
  const auto check = [&](const char* wanted, const std::string& expected) {
    EXPECT_EXIT(std::exit(in_use_when(wanted) == expected ? 0 : 1), testing::ExitedWithCode(0), "") << wanted;
  };
  check("", tables().front()->name);
  for (const ReductionTable* table : tables()) check(table->name, table->name);
  EXPECT_EXIT(std::exit(in_use_when("mmx").starts_with("RINGTREE_SIMD=mmx is not") ? 0 : 1),
              testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace ringtree
