# The functions behind the catalogue's lines in csrc/CMakeLists.txt. What they generate lies in the build
# folder under csrc/catalogue/; the *.in files beside this one are its templates.
set(catalogue_templates ${CMAKE_CURRENT_LIST_DIR})
set(catalogue_folder ${CMAKE_CURRENT_BINARY_DIR}/catalogue)

# Registers csrc/algorithms/<collective>_<name>.h, which defines `struct <collective>_<name>`.
function(ringtree_algorithm collective name)
  set(stem ${collective}_${name})
  if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/algorithms/${stem}.h)
    message(FATAL_ERROR "ringtree_algorithm(${collective} ${name}) needs csrc/algorithms/${stem}.h")
  endif()
  configure_file(${catalogue_templates}/host_entry.cpp.in ${catalogue_folder}/${stem}.cpp @ONLY)

  set_property(GLOBAL APPEND PROPERTY catalogue_sources ${catalogue_folder}/${stem}.cpp)
  set_property(GLOBAL APPEND_STRING PROPERTY algorithm_includes "#include \"algorithms/${stem}.h\"\n")
  set_property(GLOBAL APPEND_STRING PROPERTY algorithm_declarations "HostEntry host_entry_${stem}();\n")
  set_property(GLOBAL APPEND_STRING PROPERTY algorithm_entries "      host_entry_${stem}(),\n")
  set_property(GLOBAL APPEND_STRING PROPERTY entries "RINGTREE_ENTRY(${collective}, ${name})\n")
endfunction()

# Registers csrc/transports/<name>.cpp, which defines `make_<name>_transport()`.
function(ringtree_transport name)
  if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/transports/${name}.cpp)
    message(FATAL_ERROR "ringtree_transport(${name}) needs csrc/transports/${name}.cpp")
  endif()
  set_property(GLOBAL APPEND_STRING PROPERTY transport_declarations
    "std::unique_ptr<Transport> make_${name}_transport();\n")
  set_property(GLOBAL APPEND_STRING PROPERTY transport_entries
    "      TransportEntry{\"${name}\", &make_${name}_transport},\n")
endfunction()

# Closes the catalogue: writes the lists of all lines, and sets `sources` to the C++ files to compile.
function(ringtree_catalogue sources)
  foreach(list algorithm_includes algorithm_declarations algorithm_entries entries
          transport_declarations transport_entries)
    get_property(${list} GLOBAL PROPERTY ${list})
  endforeach()
  foreach(file catalogue.cpp algorithms.h entries.inc)
    configure_file(${catalogue_templates}/${file}.in ${catalogue_folder}/${file} @ONLY)
  endforeach()
  get_property(generated GLOBAL PROPERTY catalogue_sources)
  set(${sources} ${generated} ${catalogue_folder}/catalogue.cpp PARENT_SCOPE)
endfunction()
