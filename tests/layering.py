"""Who may include or import whom: the tables of the design, held against the sources.

Run as a script, with the root of another tree or without, it prints each violation as file:line and exits
with 1 if there is one.
"""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# A folder of csrc/, and the folders that it may include from besides itself.
_UP_TO_WIRE = {"core", "schedule", "link", "wire"}
_UP_TO_COMMUNICATOR = _UP_TO_WIRE | {"algorithms", "transports", "communicator"}
MAY_INCLUDE: Mapping[str, set[str]] = {
    "core": set(),
    "schedule": {"core"},
    "link": {"core", "schedule"},
    "wire": {"core", "schedule", "link"},
    "algorithms": _UP_TO_WIRE,
    "transports": _UP_TO_WIRE,
    "communicator": _UP_TO_COMMUNICATOR,
    "python": _UP_TO_COMMUNICATOR,
    "bindings": _UP_TO_COMMUNICATOR | {"python"},
    "torch": _UP_TO_COMMUNICATOR | {"python"},
    "cuda": _UP_TO_WIRE | {"algorithms", "transports"},
}
# Folders whose files know nothing of one another, and the headers that they share all the same.
STRANGERS: Mapping[str, set[str]] = {"algorithms": set(), "transports": {"transports/transport.h"}}
# Headers from outside that are meant for few, by how their names begin.
FOREIGN: Mapping[str, set[str]] = {
    "pybind11/": {"bindings", "python", "torch"},
    "Python.h": {"bindings", "torch"},
    "torch/": {"torch"},
    "c10/": {"torch"},
    "cuda": {"cuda"},
}
# csrc/catalogue/ writes these into the build folder. They list whole layers, so they belong to none.
GENERATED = {"algorithms.h", "entries.inc"}
# The port: nobody else asks which compiler is reading.
PORT = {"core/platform.h"}

# The modules of python/ringtree, lowest first; each may import those of the lines above its own. A package
# is one module here, free inside.
PYTHON_LAYERS = (
    {"_core", "_torch"},
    {"errors"},
    {"catalogue", "snapshots"},
    {"allocation", "buffers", "launch", "tuning"},
    {"cuda", "rendezvous"},
    {"communicator"},
    {"local", "start"},
    {"compress"},
    {"train", "torch_backend"},
    {"__init__"},
    {"story"},
    {"run", "top", "trace"},
    {"cli"},
    {"__main__"},
)
# `import ringtree` works without torch: others do not import it, and rendezvous only inside a function.
TORCH_MODULES = {"torch_backend", "compress", "train"}
TORCH_LATER = {"rendezvous"}


@dataclass(frozen=True, order=True)
class Violation:
    """A line that must not be there."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


def violations(root: Path) -> list[Violation]:
    """All violations in the tree at `root`, sorted; paths are relative to it."""
    return sorted(
        Violation(found.path.relative_to(root), found.line, found.text)
        for found in (*_cpp_violations(root / "csrc"), *_python_violations(root / "python" / "ringtree"))
    )


def _cpp_violations(csrc: Path) -> Iterator[Violation]:
    graph: dict[Path, dict[Path, int]] = {}
    for path in sorted(csrc.glob("*/**/*.*")):
        if path.suffix not in {".h", ".cpp", ".cu", ".cuh", ".def"}:
            continue
        name = path.relative_to(csrc).as_posix()
        layer = name.split("/")[0]
        if layer not in MAY_INCLUDE:
            yield Violation(path, 1, f"csrc/{layer}/ has no place in the table of tests/layering.py")
            continue
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if re.match(r"\s*#\s*(if|ifdef|ifndef|elif)\b.*__CUDA", line) and name not in PORT:
                yield Violation(path, number, f"only {' and '.join(sorted(PORT))} may ask for the compiler")
            include = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
            if include is None or include[2] in GENERATED:
                continue
            if complaint := _complaint_about_include(csrc, name, include[2], ours=include[1] == '"'):
                yield Violation(path, number, complaint)
            elif include[1] == '"':
                graph.setdefault(path, {})[csrc / include[2]] = number
    yield from _cycles(graph)


def _complaint_about_include(csrc: Path, name: str, included: str, *, ours: bool) -> str | None:
    layer, target = name.split("/")[0], included.split("/")[0]
    if not ours:
        homes = [homes for prefix, homes in FOREIGN.items() if included.startswith(prefix)]
        return f"<{included}> is not for {layer}/" if homes and layer not in homes[0] else None
    if not (csrc / included).is_file():
        return f'"{included}" does not exist in csrc/'
    if target != layer:
        return None if target in MAY_INCLUDE[layer] else f"{layer}/ must not include from {target}/"
    own_header = Path(included).with_suffix("") == Path(name).with_suffix("")
    if layer in STRANGERS and not own_header and included not in STRANGERS[layer]:
        return f"files in {layer}/ must not include one another"
    return None


def _python_violations(package: Path) -> Iterator[Violation]:
    level = {module: level for level, modules in enumerate(PYTHON_LAYERS) for module in modules}
    for path in sorted(package.glob("**/*.py")):
        module = path.relative_to(package).with_suffix("").parts[0]
        if module not in level:
            yield Violation(path, 1, f"ringtree.{module} has no place in the table of tests/layering.py")
            continue
        for found in _imports(path, package=path.relative_to(package.parent).parts[:-1]):
            top, *rest = found.name.split(".")
            target = rest[0] if rest and rest[0] in level else "__init__"
            if top == "ringtree" and target != module and level[target] >= level[module]:
                yield Violation(path, found.line, f"{module} must not import {target}")
            late_enough = found.runs == "never" or (found.runs == "later" and module in TORCH_LATER)
            if top == "torch" and module not in TORCH_MODULES and not late_enough:
                yield Violation(path, found.line, f"{module} must not import torch")


@dataclass(frozen=True)
class _Import:
    name: str  # absolute, down to what is imported: ringtree.errors.Timeout
    line: int
    runs: str  # "now", "later" (inside a function) or "never" (for type checkers alone)


def _imports(path: Path, package: tuple[str, ...]) -> Iterator[_Import]:
    def visit(node: ast.AST, runs: str) -> Iterator[_Import]:
        if isinstance(node, ast.Import):
            yield from (_Import(alias.name, node.lineno, runs) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            source = ".".join((*base, *filter(None, [node.module])))
            yield from (_Import(f"{source}.{alias.name}", node.lineno, runs) for alias in node.names)
        else:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                runs = "later"
            elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
                runs = "never"
            for child in ast.iter_child_nodes(node):
                yield from visit(child, runs)

    yield from visit(ast.parse(path.read_text()), "now")


def _cycles(graph: Mapping[Path, Mapping[Path, int]]) -> Iterator[Violation]:
    """A violation at each line that closes a circle."""
    finished: set[Path] = set()

    def visit(path: Path, trail: list[Path]) -> Iterator[Violation]:
        for target, line in graph.get(path, {}).items():
            if target in trail:
                circle = [*trail[trail.index(target) :], target]
                yield Violation(path, line, "circle: " + " > ".join(step.name for step in circle))
            elif target not in finished:
                yield from visit(target, [*trail, target])
        finished.add(path)

    for path in graph:
        if path not in finished:
            yield from visit(path, [path])


def main() -> int:
    """Check the tree named on the command line, by default the one this file lies in."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    found = violations(root)
    for violation in found:
        print(violation)
    print(f"layering: {len(found)} violations" if found else "layering: no violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
