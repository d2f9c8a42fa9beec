// What the core asks Python. Part of both extension modules, which each have a core of their own.
#pragma once

namespace ringtree {

/// From now on waits end when a signal's handler has raised, and calls know the line of the program that made
/// them. Called when a module is imported.
void answer_the_core();

}  // namespace ringtree
