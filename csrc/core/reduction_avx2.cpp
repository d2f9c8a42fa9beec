// The reduction loops for x86-64 machines with AVX2.
#if !defined(__AVX2__) || !defined(__F16C__)
#error "compile this file with -mavx2 -mfma -mf16c"
#endif

#define RINGTREE_LOOPS avx2
#include "core/reduction_loops.h"

namespace ringtree::avx2 {

extern constinit const ReductionTable kReductionTable = table_called("avx2");

}  // namespace ringtree::avx2
