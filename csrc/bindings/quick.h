// The short way into the communicator, for blocking calls on plain arrays with nothing out of the ordinary.
#pragma once

#include <pybind11/pybind11.h>

namespace ringtree {

/// Defines `_core.Quick`. Its methods take the arrays themselves and return whether they made the call; if
/// not, nothing has happened, and the long way (ringtree/communicator) makes it or says what is wrong.
///
/// Written against CPython's own interface: a pybind11 call with nine arguments takes longer than the
/// all-reduce of a few bytes that it asks for.
void define_quick(pybind11::module_& module);

}  // namespace ringtree
