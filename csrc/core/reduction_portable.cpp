// The reduction loops for every machine of this architecture: SSE2 on x86-64, NEON on Arm.
#define RINGTREE_LOOPS portable
#include "core/reduction_loops.h"

namespace ringtree::portable {

#ifdef __ARM_NEON
extern constinit const ReductionTable kReductionTable = table_called("neon");
#else
extern constinit const ReductionTable kReductionTable = table_called("portable");
#endif

}  // namespace ringtree::portable
