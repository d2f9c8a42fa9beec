"""Goals from records: reached, missed, and never guessed; shares, ratios and versions by arithmetic."""

import json
from pathlib import Path
from typing import Any

import pytest
from ringtree_bench.cases import cases_of_sizes
from ringtree_bench.gpu.goals import read, verdicts
from ringtree_bench.gpu.limits import Limits
from ringtree_bench.gpu.measure import GpuTiming
from ringtree_bench.gpu.rivals.sharing import refusal_to_share, sharing_settings
from ringtree_bench.gpu.table import Layout, Row

LIMITS = Limits({1 << 20: 1e9, 1 << 28: 2e9}, empty_kernel=4e-6, empty_kernel_in_a_row=2e-6, round_trip=1e-6)


def record_of(ranks: str, world: int, *rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "gpu",
        "settings": {"RINGTREE_TIMEOUT": "60"},
        "ranks": ranks,
        "world": world,
        "ranks_sharing_one_gpu": world,
        "device": "a GPU",
        "commit": "abc",
        "limits": {"floor": 5e-6},
        "rows": list(rows),
    }


def row_of(size: int, **given: Any) -> dict[str, Any]:
    row = {
        "collective": "all_reduce",
        "size": size,
        "algorithm": "auto",
        "taken": "ring",
        "least_share_of_copy": 0.5,
        "declared_share_of_copy": 0.7,
        "ringtree": {"wrong": 0, "alone_median": 9e-6},
        "peers": {},
        "ratios": {},
    }
    return row | given


def against(ratio: float, wrong: int = 0) -> dict[str, Any]:
    return {"ratios": {"nccl": ratio}, "peers": {"nccl": {"wrong": wrong}}}


def found(*records: dict[str, Any]) -> dict[str, tuple[str, float | None]]:
    return {verdict.what: (verdict.word, verdict.ratio) for verdict in verdicts(records)}


def test_without_records_nothing_is_measured() -> None:
    assert {word for word, _ in found().values()} == {"not measured"}
    assert len(found()) == 4 * 3 + 2 * 3 + 2 * 3


def test_the_best_algorithm_counts_for_bandwidth() -> None:
    rows = [row_of(256 << 20, taken=name, least_share_of_copy=share)
            for name, share in (("ring", 0.4), ("zero_copy", 0.85), ("two_shot", 0.6))]  # fmt: skip
    goals = found(record_of("threads", 8, *rows), record_of("threads", 2, *rows[:1]))
    what = "all_reduce of 256 MiB by {} threads on one GPU, share of the copies' rate"
    assert goals[what.format(8)] == ("reached", 0.85)
    assert goals[what.format(2)] == ("missed", 0.4)
    assert goals[what.format(4)] == ("not measured", None)


def test_algorithms_that_go_through_slots_are_held_against_their_own_bytes() -> None:
    rows = [row_of(256 << 20, taken=name, declared_share_of_copy=share)
            for name, share in (("ring", 0.79), ("double_tree", 0.8), ("ring", 0.6))]  # fmt: skip
    goals = found(record_of("threads", 4, *rows))
    what = "all_reduce of 256 MiB by 4 threads on one GPU, {} by its own bytes"
    assert goals[what.format("ring")] == ("missed", 0.79)
    assert goals[what.format("double_tree")] == ("reached", 0.8)
    assert goals[what.format("two_shot")] == ("not measured", None)


def test_runs_with_other_settings_do_not_count() -> None:
    record = record_of("threads", 2, row_of(256 << 20, least_share_of_copy=0.9))
    ordered = record | {"settings": {"RINGTREE_GPU_CHANNELS": "64"}}
    assert "reached" in {word for word, _ in found(record).values()}
    assert {word for word, _ in found(ordered).values()} == {"not measured"}


def test_wrong_rows_and_other_kinds_of_ranks_do_not_count() -> None:
    good = row_of(256 << 20, least_share_of_copy=0.9)
    wrong = good | {"ringtree": {"wrong": 3, "alone_median": 1e-6}}
    words = {
        word for word, _ in found(record_of("virtual", 8, good), record_of("threads", 8, wrong)).values()
    }
    assert words == {"not measured"}


def test_the_least_ratio_counts_against_nccl() -> None:
    rows = [row_of(8, **against(3.0)), row_of(64 << 10, **against(1.9)), row_of(1 << 20, **against(1.2))]
    goals = found(record_of("processes", 2, *rows))
    assert goals["all_reduce against NCCL, any size"] == ("reached", 1.2)
    assert goals["all_reduce against NCCL, up to 64 KiB"] == ("missed", 1.9)
    assert goals["all_gather against NCCL, any size"] == ("not measured", None)


def test_an_nccl_that_is_wrong_is_no_rival() -> None:
    goals = found(record_of("processes", 2, row_of(8, **against(3.0, wrong=1))))
    assert goals["all_reduce against NCCL, any size"] == ("not measured", None)


def test_a_graph_is_held_against_the_floor_of_its_own_run() -> None:
    row = row_of(8, algorithm="auto in a graph")
    goals = found(record_of("virtual", 4, row), record_of("threads", 4, row_of(8)))
    assert goals["8 B all_reduce in a graph, 4 ranks in one launch, times the floor"] == (
        "reached",
        pytest.approx(1.8),
    )
    assert goals["8 B all_reduce in a graph, 4 ranks as threads, times the floor"] == ("not measured", None)


def test_records_of_the_host_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "gpu.jsonl"
    path.write_text("\n".join(map(json.dumps, [{"rows": []}, record_of("threads", 2)])) + "\n")
    assert [record["world"] for record in read([path])] == [2]


def test_shares_count_bytes_read_and_written_against_the_copy_of_like_size() -> None:
    assert LIMITS.floor == pytest.approx(5e-6)
    assert LIMITS.copy_share(2 << 28, (1 << 28) / 2e9) == pytest.approx(1.0)
    assert LIMITS.copy_share(2 << 20, 2 * (1 << 20) / 1e9) == pytest.approx(0.5)


def test_a_row_shows_both_shares_and_the_algorithm_that_auto_took() -> None:
    (case,) = cases_of_sizes("all_reduce", [1 << 27], "float32", "sum", 2)
    seconds = 2 * (1 << 28) / 2e9  # 2 ranks read and write 128 MiB each: half of the copy's rate
    timing = GpuTiming((seconds,), 1, 0, (seconds,), (seconds,))
    row = Row(case, "auto", timing, (None,), "ring", 1.5 * case.least_traffic_bytes)
    assert row.least_share(LIMITS) == pytest.approx(0.5)
    assert row.moved_share(LIMITS) == pytest.approx(0.75)
    cells = Layout(case, ["auto"], ["nccl"], LIMITS).line(row).split()
    assert cells[4:6] == ["auto:", "ring"]
    assert cells[-4:] == ["50", "75", "-", "-"]


def test_old_nccls_refuse_to_share_a_gpu_and_new_ones_are_told_to() -> None:
    assert refusal_to_share((2, 28, 9), 1) == ""
    assert "NCCL 2.28.9 refuses several ranks on one GPU" in refusal_to_share((2, 28, 9), 2)
    assert refusal_to_share((2, 30, 3), 8) == ""
    assert sharing_settings(1) == {}
    assert sharing_settings(4) == {"NCCL_MULTI_RANK_GPU_ENABLE": "1", "NCCL_MAX_CTAS": "8"}
