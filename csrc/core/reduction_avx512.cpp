// The reduction loops for x86-64 machines with AVX-512 (F, BW, DQ, VL: Skylake-X, Zen 4 and later).
#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__) || !defined(__AVX512VL__)
#error "compile this file with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif

#define RINGTREE_LOOPS avx512
#include "core/reduction_loops.h"

namespace ringtree::avx512 {

extern constinit const ReductionTable kReductionTable = table_called("avx512");

}  // namespace ringtree::avx512
