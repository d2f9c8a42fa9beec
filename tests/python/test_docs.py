"""What the documentation says, held against the code: snippets run, links lead somewhere, tables are true.

Run as a script it writes the table of chosen algorithms into docs/algorithms/README.md.
"""

import ast
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ringtree as rt
from ringtree import _core

ROOT = Path(__file__).parents[2]
ALGORITHMS = ROOT / "docs" / "algorithms" / "README.md"
LAUNCHED = ("RANK", "WORLD_SIZE", "OMPI_", "PMI", "SLURM_", "MASTER_", "TORCHELASTIC_", "RINGTREE_")

PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in {"build", "dist"} for part in path.relative_to(ROOT).parts)
)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


SNIPPETS = [
    pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, text in enumerate(blocks(page, "python"))
]


# Snippets


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("snippet", SNIPPETS)
def test_python_in_the_documentation_runs_and_prints_what_it_says(
    snippet: str, world: int, tmp_path: Path
) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHED)}
    launched = {
        "WORLD_SIZE": str(world),
        "RINGTREE_RENDEZVOUS": f"file://{tmp_path}",
        "RINGTREE_TIMEOUT": "60",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", snippet],
            env=clean | launched | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    promised = re.findall(r"^print\(.*\)  # (.*)$", snippet, re.MULTILINE)
    for rank in ranks:
        said, complaint = rank.communicate(timeout=120)
        assert rank.returncode == 0, complaint
        assert not promised or said.splitlines() == promised


def test_the_algorithm_in_the_architecture_compiles(tmp_path: Path) -> None:
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    (text,) = [block for block in blocks(ROOT / "ARCHITECTURE.md", "cpp") if "#pragma once" in block]
    (stem,) = re.findall(r"^struct (\w+) ", text, re.MULTILINE)
    collective, _, name = stem.partition("_")
    (tmp_path / f"{stem}.h").write_text(text)
    unit = tmp_path / "unit.cpp"
    unit.write_text(
        f'#include "{stem}.h"\n#include "communicator/host_entry.h"\n'
        f"namespace ringtree {{ RINGTREE_HOST_ENTRY({collective}, {name}) }}\n"
    )
    command = [compiler, "-std=c++20", "-fsyntax-only", f"-I{ROOT / 'csrc'}", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Links


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("folder", ["docs", "docs/algorithms", "docs/decisions"])
def test_an_index_names_every_page_beside_it(folder: str) -> None:
    index = (ROOT / folder / "README.md").read_text()
    pages = {path.name for path in (ROOT / folder).glob("*.md")} - {"README.md"}
    assert {page for page in pages if f"({page})" not in index} == set()


# Names


def variables_of(source: str) -> Iterator[str]:
    """Environment variables that a Python file reads: by name where it looks them up, else by how they begin."""
    yield from re.findall(r"environ(?:ment)?(?:\.get\(|\[)\s*\"(\w+)\"", source)
    yield from re.findall(r"\"(\w+)\" (?:not )?in environ", source)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(
                r"^(?:RANK|WORLD_SIZE|(?:OMPI|PMIX?|SLURM|MASTER|TORCHELASTIC)_[A-Z_]+)$", node.value
            )
            # A name that goes on, as in startswith("RINGTREE_GPU_"), is the beginning of several.
            yield from re.findall(r"\bRINGTREE_[A-Z]+(?:_[A-Z]+)*(?![A-Z_])", node.value)


def test_every_environment_variable_that_is_read_is_documented() -> None:
    python = [
        *(ROOT / "python").rglob("*.py"),
        *(ROOT / "bench" / "ringtree_bench").rglob("*.py"),
        ROOT / "setup.py",
    ]
    read = {name for path in python for name in variables_of(path.read_text())}
    for path in (ROOT / "csrc").rglob("*.*"):
        read.update(re.findall(r"getenv\(\"(\w+)\"\)", path.read_text()))
    documented = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "environment.md").read_text()))
    assert len(read) > 15
    assert read - documented - {"LOCAL_RANK"} == set()  # which is set for others, not read


def test_every_error_is_documented() -> None:
    listed = re.findall(r"^RINGTREE_ERROR\((\w+)", (ROOT / "csrc/core/errors.def").read_text(), re.MULTILINE)
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    assert rows == listed


# The tables of algorithms


def documented_costs() -> dict[tuple[str, str], list[str]]:
    """The formulas for steps, bytes a link and moved bytes, by collective and algorithm."""
    costs, collective = {}, ""
    row = r"^\| (\w*) ?\| \[(\w+)\]\(\w+\.md\) \| (.*?) \| (.*?) \| (.*?) \|$"
    for name, algorithm, *formulas in re.findall(row, ALGORITHMS.read_text(), re.MULTILINE):
        collective = name or collective
        costs[collective, algorithm] = formulas
    return costs


def test_the_table_has_every_algorithm_of_the_catalogue() -> None:
    lines = (ROOT / "csrc" / "CMakeLists.txt").read_text()
    assert list(documented_costs()) == re.findall(r"^ringtree_algorithm\((\w+) (\w+)\)", lines, re.MULTILINE)


def evaluated(formula: str, n: int, size: int) -> float:
    """A formula as the page writes it, for `n` ranks and a buffer of `size` bytes."""
    general, _, special = formula.partition(" (n = ")
    few = dict(re.findall(r"(\d): ([^,]+)", special.removesuffix(")")))
    text = few.get(str(n), general)
    text = text.removesuffix(" B").replace("⌈log2 n⌉", "(n - 1).bit_length()").replace("log2 c", "log2(c)")
    text = re.sub(
        r"⌈S/(n?)(²?)(2?)P⌉",
        lambda m: "up(S" + "/n" * (len(m[1]) + len(m[2])) + "/2" * len(m[3]) + "/P)",
        text,
    )
    text = text.replace("n²", "n**2")
    text = re.sub(r"(?<=[\d)]) *(?=[a-zSP(])(?<!log2)", "*", text)  # 2(n-1), 5n, 2d, (n+3) S
    text = re.sub(r"(?<=[nfgr]) (?=[Sn])", "*", text)
    c = 1 << (n.bit_length() - 1)
    below = [2 * 2**bit if 2**bit < n - c else 2**bit + n - c for bit in range(c.bit_length())]
    letters = {
        "n": n,
        "S": size,
        "P": 256 * 1024 // n // 64 * 64,  # LinkLayout::of, priced()
        "c": c,
        "f": 0 if c == n else 1 if n <= 1.5 * c else 2,
        "g": 0 if c == n else 1,
        "o": below[0],
        "r": sum(below[:-1]),
        "max": max,
        "d": (n - 1).bit_length(),
        "log2": math.log2,
        "up": lambda pieces: max(1, math.ceil(pieces)),
    }
    return float(eval(text, {"__builtins__": {}}, letters))


@pytest.mark.parametrize(("collective", "algorithm"), documented_costs())
def test_the_table_declares_what_the_algorithm_declares(collective: str, algorithm: str) -> None:
    formulas = documented_costs()[collective, algorithm]
    for n in (2, 3, 4, 6, 8, 13, 16, 64):
        for size in (8, 100_000, 1 << 20, 1 << 28):
            cost = _core.cost(collective, algorithm, n, size)
            declared = [cost.steps, cost.bytes_per_link, cost.moved_bytes]
            assert [evaluated(formula, n, size) for formula in formulas] == pytest.approx(declared), (n, size)


CHOICE = re.compile(r"(?<=<!-- choice:begin -->\n).*?(?=<!-- choice:end -->)", re.DOTALL)


def table_of_choices(worlds: tuple[int, ...] = (2, 4, 8, 16)) -> str:
    """What the cost model takes, from the constants in choice.cpp, as the chooser does it."""
    constants = re.search(
        r"kOwnCores\{([\d.]+), ([\d']+)\}", (ROOT / "csrc/communicator/choice.cpp").read_text()
    )
    assert constants is not None
    step_us, bytes_per_us = float(constants[1]), float(constants[2].replace("'", ""))

    def microseconds(collective: str, algorithm: str, world: int, size: int) -> float:
        cost = _core.cost(collective, algorithm, world, size)
        return cost.steps * step_us + cost.moved_bytes / bytes_per_us

    def rules(collective: str, world: int) -> str:
        names = rt.algorithms(collective)
        chosen = [
            min(names, key=lambda name: microseconds(collective, name, world, 2**e)) for e in range(3, 41)
        ]
        ends = [e for e in range(3, 40) if chosen[e - 3] != chosen[e - 2]]
        return ", ".join([*(f"{chosen[e - 3]} to {readable(2**e)}" for e in ends), chosen[-1]])

    lines = [f"| | {' | '.join(f'n = {world}' for world in worlds)} |", f"|---|{'---|' * len(worlds)}"]
    for collective in _core.COLLECTIVES:
        lines.append(f"| {collective} | {' | '.join(rules(collective, world) for world in worlds)} |")
    return "\n".join(lines) + "\n"


def readable(size: int) -> str:
    for unit, power in (("MiB", 20), ("KiB", 10)):
        if size >= 1 << power:
            return f"{size >> power} {unit}"
    return f"{size} B"


def test_the_table_of_choices_is_what_the_model_chooses() -> None:
    written = CHOICE.search(ALGORITHMS.read_text())
    assert written is not None
    assert written[0] == table_of_choices(), "python tests/python/test_docs.py writes it anew"


if __name__ == "__main__":
    ALGORITHMS.write_text(CHOICE.sub(lambda _: table_of_choices(), ALGORITHMS.read_text()))
