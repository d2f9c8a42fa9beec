# ringtree._torch, the backend for torch.distributed, against the PyTorch of the configured Python.
#
# Neither find_package(Torch), which wants CUDA's compiler where PyTorch was built with CUDA, nor `import
# torch`, which takes seconds: its folders have stood where they stand for years.
execute_process(
  COMMAND ${Python_EXECUTABLE} -c "import importlib.util as u, pathlib as p, runpy\n\
spec = u.find_spec('torch')\n\
root = p.Path(spec.origin).parent\n\
print(root, runpy.run_path(str(root / 'version.py'))['__version__'], sep=';')"
  OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE missing)
if(NOT missing)
  list(GET found 0 torch_root)
  list(GET found 1 torch_version)
endif()

if(missing OR torch_version VERSION_LESS 2.11)
  set(why "no PyTorch 2.11 or later for ${Python_EXECUTABLE}")
  if(RINGTREE_TORCH STREQUAL AUTO)
    message(STATUS "ringtree: no backend for torch.distributed: ${why}")
  else()
    message(FATAL_ERROR "RINGTREE_TORCH=${RINGTREE_TORCH}: ${why}")
  endif()
else()
  message(STATUS "ringtree: backend for torch.distributed, PyTorch ${torch_version} in ${torch_root}")
  # PyTorch's own pybind11: the types of both modules are one.
  add_library(ringtree_pytorch INTERFACE)
  target_include_directories(ringtree_pytorch SYSTEM INTERFACE
    ${torch_root}/include ${torch_root}/include/torch/csrc/api/include)
  target_compile_definitions(ringtree_pytorch INTERFACE TORCH_API_INCLUDE_EXTENSION_H)
  target_compile_options(ringtree_pytorch INTERFACE -g0)
  target_link_libraries(ringtree_pytorch INTERFACE
    ${torch_root}/lib/libc10.so ${torch_root}/lib/libtorch.so ${torch_root}/lib/libtorch_cpu.so
    ${torch_root}/lib/libtorch_python.so)

  file(GLOB torch_sources CONFIGURE_DEPENDS torch/*.cpp python/*.cpp)
  Python_add_library(_torch MODULE WITH_SOABI ${torch_sources})
  target_link_libraries(_torch PRIVATE ringtree_core ringtree_warnings ringtree_pytorch)
  # They are loaded already when this module is: PyTorch is imported first.
  set_target_properties(_torch PROPERTIES SKIP_BUILD_RPATH ON)
  install(TARGETS _torch DESTINATION ringtree COMPONENT module)
  add_dependencies(modules _torch)
endif()
