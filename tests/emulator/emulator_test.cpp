// The tests are in <subject>_test.cpp; this is where they start.
#include <gtest/gtest.h>

#include "ipc_test.h"

int main(int argc, char** argv) {
  if (const auto status = ringtree_emulator::run_as_other_process(argc, argv)) return *status;
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
