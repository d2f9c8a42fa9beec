# libringtree_cuda.so, the fabric of GPUs: a library of its own, which ringtree._core loads when it first needs it.
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(NOT RINGTREE_CUDA STREQUAL AUTO)
    message(FATAL_ERROR "RINGTREE_CUDA=${RINGTREE_CUDA}: CUDA's compiler, nvcc, is not found; CUDACXX may name it")
  endif()
  message(STATUS "ringtree: no CUDA fabric: nvcc is not found")
  return()
endif()

if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 90-virtual)  # later devices compile the PTX of 90-virtual
endif()
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 20)
find_package(CUDAToolkit REQUIRED)
message(STATUS "ringtree: CUDA fabric, CUDA ${CUDAToolkit_VERSION}, for ${CMAKE_CUDA_ARCHITECTURES}")

file(GLOB cuda_sources CONFIGURE_DEPENDS cuda/*.cu cuda/*.cpp)
add_library(ringtree_cuda MODULE ${cuda_sources})
# The kernels call the loops of copies and reductions, which are compiled once. Blocks of 512 lanes have 128
# registers for each.
set_source_files_properties(cuda/copy.cu cuda/reduction.cu PROPERTIES COMPILE_OPTIONS --maxrregcount=128)
set_target_properties(ringtree_cuda PROPERTIES CUDA_SEPARABLE_COMPILATION ON CUDA_RESOLVE_DEVICE_SYMBOLS ON)
target_link_libraries(ringtree_cuda PRIVATE ringtree_headers ringtree_warnings CUDA::cudart_static)
target_link_options(ringtree_cuda PRIVATE $<HOST_LINK:-s>)
install(TARGETS ringtree_cuda DESTINATION ringtree COMPONENT module)
add_dependencies(modules ringtree_cuda)
