#include "communicator/segment.h"

namespace ringtree {

void Segment::ring_everyone() const {
  for (int rank = 0; rank < world(); ++rank) doorbells()[rank].ring();
}

}  // namespace ringtree
