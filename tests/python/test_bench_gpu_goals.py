"""Goals from records: reached, missed, and never guessed; shares, ratios and versions by arithmetic."""

import json
from pathlib import Path
from typing import Any

import pytest
from ringtree_bench.cases import cases_of_sizes
from ringtree_bench.gpu.goals import main, read, verdicts
from ringtree_bench.gpu.limits import Limits
from ringtree_bench.gpu.measure import GpuTiming
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


EVERY_SIZE = [8, *(16 << 2 * step for step in range(14))]  # 8, 16, 64, ... 1 GiB
ANY, SMALL = "all_reduce against NCCL, any size", "all_reduce against NCCL, up to 64 KiB"


def details(*records: dict[str, Any]) -> dict[str, str]:
    return {verdict.what: verdict.detail for verdict in verdicts(records)}


def test_against_nccl_the_least_ratio_of_all_sizes_counts() -> None:
    ratios = dict.fromkeys(EVERY_SIZE, 3.0) | {64 << 10: 2.5, 1 << 20: 1.2}
    record = record_of("processes", 2, *(row_of(size, **against(ratio)) for size, ratio in ratios.items()))
    assert EVERY_SIZE[-1] == 1 << 30
    assert found(record)[ANY] == ("reached", 1.2)
    assert found(record)[SMALL] == ("reached", 2.5)
    assert details(record)[ANY] == "by 2 ranks; least at 1M by 2"
    assert found(record)["all_gather against NCCL, any size"] == ("not measured", None)


def test_sizes_that_nobody_has_measured_are_no_victory() -> None:
    few = record_of("processes", 2, *(row_of(size, **against(3.0)) for size in (8, 64 << 10, 1 << 20)))
    assert found(few)[ANY] == found(few)[SMALL] == ("not measured", None)
    assert details(few)[SMALL] == "2 ranks lack 8 to 64K"
    assert details(few)[ANY] == "2 ranks lack 8 to 64K, 64K to 1M, 1M to 1G"
    most = record_of("processes", 2, *(row_of(size, **against(3.0)) for size in EVERY_SIZE[1:-1]))
    assert details(most)[ANY] == "2 ranks lack 8 to 16, 256M to 1G"
    assert details()[ANY] == ""


def test_one_slow_size_suffices_to_miss_a_goal_of_any_size() -> None:
    slow = record_of("processes", 4, row_of(8, **against(3.0)), row_of(1 << 20, **against(0.9)))
    assert found(slow)[ANY] == ("missed", 0.9)
    assert details(slow)[ANY] == "1M by 4 ranks; 4 ranks lack 8 to 1M, 1M to 1G"


def test_each_world_has_to_have_all_sizes_itself() -> None:
    whole, halves = (
        record_of("processes", world, *(row_of(size, **against(ratio)) for size in sizes))
        for world, sizes, ratio in ((4, EVERY_SIZE, 1.5), (2, EVERY_SIZE[::2], 1.1))
    )
    assert found(halves)[ANY] == ("not measured", None)
    assert found(whole, halves)[ANY] == ("reached", 1.5)
    assert details(whole, halves)[ANY].startswith("by 4 ranks; least at 8 by 4; 2 ranks lack 8 to 64, ")


def test_an_array_that_is_divided_begins_with_an_element_for_each_rank() -> None:
    sizes = [size for size in EVERY_SIZE if size >= 16]
    rows = [row_of(size, collective="all_gather", **against(1.5)) for size in sizes]
    goals = found(record_of("processes", 4, *rows))
    assert goals["all_gather against NCCL, any size"] == ("reached", 1.5)


def test_arrays_that_are_not_aligned_do_not_count() -> None:
    record = record_of("threads", 2, row_of(256 << 20, least_share_of_copy=0.9))
    assert {word for word, _ in found(record | {"skipped": 1}).values()} == {"not measured"}


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


def test_what_is_cut_off_in_a_file_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gpu.jsonl"
    path.write_text(json.dumps(record_of("threads", 2)) + '\n{"kind": "gp')
    assert len(read([path])) == 1
    assert capsys.readouterr().out == f"# {path}: a record is cut off, and is left out\n"


def test_runs_that_ended_early_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gpu.jsonl"
    records = [record_of("threads", 2) | {"complete": complete} for complete in (True, False)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    main([str(path)])
    assert "# 1 of 2 runs ended early: what they had measured counts" in capsys.readouterr().out


def test_the_stricter_of_two_measurements_holds() -> None:
    cold = Limits({1 << 20: 2e9, 1 << 28: 1e9}, 3e-6, 3e-6, 2e-6)
    for one, other in ((LIMITS, cold), (cold, LIMITS)):
        assert one.stricter(other) == Limits({1 << 20: 2e9, 1 << 28: 2e9}, 3e-6, 2e-6, 1e-6)
    assert cold.stricter(None) == cold


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
