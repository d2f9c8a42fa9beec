"""`ringtree gpu` on an emulated GPU: every kind of ranks, the table, the record, the rules. No times."""

import json
from pathlib import Path

import pytest
from contract.emulated import needs_emulator, run
from ringtree_bench.gpu.tune import settle_packets
from ringtree_bench.gpu.variants import Variant, named

pytestmark = needs_emulator

GPU = ("-m", "ringtree", "gpu", "--iterations", "2")


def rows_of(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("kind", ["virtual", "threads", "processes"])
def test_every_collective_is_right_whatever_ranks_are(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "gpu.jsonl"
    result = run(*GPU, "--as", kind, "-n", "2", "--collective", "all", "--sizes", "64,1000",
                 "--json", str(path))  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("# 0 wrong elements\n")
    assert "2 ranks sharing one GPU" in result.stdout
    rows = rows_of(result.stdout)
    assert len(rows) == (8 if kind == "virtual" else 9) * 2  # virtual ranks send no messages
    (record,) = map(json.loads, path.read_text().splitlines())
    assert (record["kind"], record["ranks"], record["world"]) == ("gpu", kind, 2)
    assert record["ranks_sharing_one_gpu"] == 2
    assert record["device"]
    assert {"copies", "empty_kernel", "empty_kernel_in_a_row", "round_trip", "floor"} <= set(record["limits"])
    assert len(record["rows"]) == len(rows)
    for row in record["rows"]:
        timing = row["ringtree"]
        assert timing["wrong"] == 0
        assert len(timing["samples"]) == len(timing["gpu_samples"]) == len(timing["alone_samples"]) == 2
        assert row["least_bytes"] > 0
        assert row["declared_bytes"] > 0


def test_ranks_that_stage_say_so(tmp_path: Path) -> None:
    path = tmp_path / "gpu.jsonl"
    result = run(*GPU, "--as", "processes", "-n", "2", "--sizes", "64", "--json", str(path),
                 RINGTREE_EMULATED_DEVICES="2", RINGTREE_EMULATED_ISLAND="1")  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 ranks, processes, staged in memory of the host" in result.stdout
    assert json.loads(path.read_text())["staged"]


@pytest.mark.parametrize("kind", ["virtual", "threads"])
def test_a_graph_is_a_row_more_for_each_algorithm(kind: str) -> None:
    result = run(*GPU, "--as", kind, "-n", "2", "--algorithm", "one_shot,ring", "--graph", "--sizes", "8")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("one_shot in a graph") == 1
    assert result.stdout.count("ring in a graph") == 1
    assert result.stdout.endswith("# 0 wrong elements\n")


@pytest.mark.parametrize("kind", ["virtual", "threads"])
def test_each_protocol_is_a_row(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "gpu.jsonl"
    result = run(*GPU, "--as", kind, "-n", "3", "--protocol", "all", "--algorithm", "ring", "--graph", "--sizes",
                 "64", "--json", str(path), RINGTREE_EMULATED_LANES="4")  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("# 0 wrong elements\n")
    record = json.loads(path.read_text())
    assert record["protocol"] == "lines up to 256 KiB"
    plain = ["ring", "ring in slots", "ring in packets"]
    assert [row["algorithm"] for row in record["rows"]] == [*plain, *(f"{name} in a graph" for name in plain)]
    assert {row["taken"] for row in record["rows"]} == {"ring"}


def test_the_environment_orders_a_protocol() -> None:
    for ordered, said in (
        ("simple", "slots"),
        ("packets", "packets of all sizes"),
        ("lines", "lines of all sizes"),
    ):
        result = run(*GPU, "-n", "2", "--sizes", "64,64K", RINGTREE_GPU_PROTOCOL=ordered)
        assert result.returncode == 0, result.stdout + result.stderr
        assert f"all in one launch, {said}," in result.stdout
    result = run(*GPU, "-n", "2", "--sizes", "64", RINGTREE_GPU_PROTOCOL="ll")
    assert result.returncode == 1
    assert "RINGTREE_GPU_PROTOCOL is simple, packets or lines, not 'll'" in result.stderr


def test_all_algorithms_of_a_collective_are_rows_and_those_without_a_kernel_say_so() -> None:
    result = run(*GPU, "-n", "3", "--collective", "all_gather", "--algorithm", "all", "--sizes", "96")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "recursive_doubling does not do all_gather of float32" in result.stdout
    taken = {row[4]: row[5] for row in rows_of(result.stdout)}
    assert taken["recursive_doubling"] == "-"
    assert taken["zero_copy"] != "-"


def test_rivals_that_are_not_there_take_a_line_and_the_rows_come_all_the_same() -> None:
    peers = "nccl,symm_one_shot,symm_two_shot"
    result = run(*GPU, "--as", "processes", "-n", "2", "--peers", peers, "--sizes", "64")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count(" is not measured: needs") == 3
    result = run(*GPU, "--as", "threads", "-n", "2", "--peers", "nccl", "--sizes", "64")
    assert "nccl is not measured: its ranks are processes" in result.stdout


def test_options_that_make_no_sense_say_why() -> None:
    result = run(*GPU, "-n", "2", "--collective", "sendrecv")
    assert result.returncode == 2
    assert "there is no collective of ranks that are virtual 'sendrecv'" in result.stderr
    result = run(*GPU, "-n", "2", "--sizes", "64", "--protocol", "all", RINGTREE_GPU_PROTOCOL="simple")
    assert result.returncode == 2
    assert "--protocol all: there is one here, slots, for every call" in result.stderr
    result = run(*GPU, "-n", "2", "--protocol", "carrier")
    assert result.returncode == 2
    assert "there is no protocol 'carrier'; there are auto, slots, packets" in result.stderr
    result = run(*GPU, "-n", "2", "--algorithm", "mirror")
    assert result.returncode == 2
    assert "there is no algorithm of all_reduce 'mirror'" in result.stderr


def test_without_a_gpu_one_line_says_what_is_missing(tmp_path: Path) -> None:
    result = run(*GPU, "-n", "2", RINGTREE_CUDA_LIBRARY=str(tmp_path / "none.so"))
    assert result.returncode == 1
    assert "TransportError: ringtree's CUDA fabric cannot be loaded" in result.stderr


CHOSEN = """
import ringtree as rt

def chosen(comm):
    x = comm.empty(64, device="cuda")
    comm.all_reduce(x)
    comm.synchronize()
    return comm.chosen("all_reduce", 256, device="cuda")

print(rt.run_local(2, chosen, device="cuda"), rt.cuda.VirtualRanks(2).chosen("all_reduce", 256))
"""


def test_what_tune_writes_for_gpus_is_what_auto_takes_there(tmp_path: Path) -> None:
    path = tmp_path / "tuning.json"
    result = run("-m", "ringtree", "tune", "--device", "cuda", "--threads", "-n", "2", "--sizes", "64",
                 "--seconds", "0.01", "--output", str(path))  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    entries = json.loads(path.read_text())["entries"]
    assert {(entry["transport"], entry["world"]) for entry in entries} == {("cuda", 2)}
    assert "all_reduce" in {entry["collective"] for entry in entries}
    assert all(isinstance(entry["packets"], int) for entry in entries)
    for name in ("double_tree", "zero_copy"):
        entry = {"collective": "all_reduce", "transport": "cuda", "world": 2, "rules": [[1 << 20, name]]}
        path.write_text(json.dumps({"version": 1, "entries": [entry]}))
        result = run("-c", CHOSEN, RINGTREE_TUNING=str(path))
        assert result.stdout == f"['{name}', '{name}'] {name}\n", result.stderr


LIMITS = """
import ringtree as rt

def limit(comm):
    comm.all_reduce(comm.empty(64, device="cuda"))
    comm.synchronize()
    return comm._core.packets_on_gpu("all_reduce", None)

print(rt.run_local(2, limit, device="cuda"), rt.cuda.VirtualRanks(2)._core.packets("all_reduce", None))
"""


def test_packets_serve_as_far_as_the_tuning_file_says(tmp_path: Path) -> None:
    path = tmp_path / "tuning.json"
    entry = {"collective": "all_reduce", "transport": "cuda", "world": 2, "rules": [[64, "ring"]]}
    for packets, found in ((4096, "[4096, 4096] 4096\n"), (None, "[None, None] None\n")):
        path.write_text(json.dumps({"version": 1, "entries": [entry | {"packets": packets}]}))
        result = run("-c", LIMITS, RINGTREE_TUNING=str(path))
        assert result.stdout == found, result.stderr
    path.write_text(json.dumps({"version": 1, "entries": [entry | {"packets": -1}]}))
    result = run("-c", LIMITS, RINGTREE_TUNING=str(path))
    assert "packets of all_reduce up to -1 bytes" in result.stderr
    assert "InvalidArgument" in result.stderr


def test_measuring_a_protocol_leaves_the_tuned_size_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "tuning.json"
    entry = {
        "collective": "all_reduce",
        "transport": "cuda",
        "world": 2,
        "rules": [[64, "ring"]],
        "packets": 5,
    }
    path.write_text(json.dumps({"version": 1, "entries": [entry]}))
    result = run("-c", MEASURED, RINGTREE_TUNING=str(path))
    assert result.stdout == "[5, 5]\n", result.stderr


MEASURED = """
import ringtree as rt
from ringtree_bench.gpu.seats import Seat

def measured(comm):
    comm.all_reduce(comm.empty(64, device="cuda"))
    seat = Seat(None, "threads", 2, (comm.rank,), comm, "-", 2, "-", 1)
    for limit in (0, 1 << 62, None, 0, None):
        seat.prefer_packets("all_reduce", limit)
    comm.synchronize()
    return comm._core.packets_on_gpu("all_reduce", None)

print(rt.run_local(2, measured, device="cuda"))
"""


def test_what_tune_writes_where_messages_are_staged_says_nothing_of_packets(tmp_path: Path) -> None:
    path = tmp_path / "tuning.json"
    result = run("-m", "ringtree", "tune", "--device", "cuda", "-n", "2", "--sizes", "64", "--seconds", "0.01",
                 "--output", str(path), RINGTREE_EMULATED_DEVICES="2", RINGTREE_EMULATED_ISLAND="1")  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert {entry["packets"] for entry in json.loads(path.read_text())["entries"]} == {None}


def times_of(slots: float, packets: float) -> dict[str, float]:
    return {
        "ring in slots": slots,
        "one_shot in slots": 2 * slots,
        "one_shot in packets": packets,
        "zero_copy": 9.0,
    }


def test_packets_serve_up_to_where_they_lose_least_time() -> None:
    sizes = {8 * 4**i: 8 * 4**i for i in range(4)}
    rows = [times_of(4, 1), times_of(4, 2), times_of(4, 8), times_of(4, 16)]
    limit, counted = settle_packets(dict(zip(sizes, rows, strict=True)), sizes)
    assert limit == 64  # between 32 and 128
    assert [row["one_shot"] for row in counted.values()] == [1, 2, 8, 8]
    assert ["ring" in row for row in counted.values()] == [False, False, True, True]
    assert all(row["zero_copy"] == 9 for row in counted.values())


@pytest.mark.parametrize(("packets", "limit"), [(1, 32), (8, 0)])
def test_packets_may_serve_always_or_never(packets: float, limit: int) -> None:
    halved = {8: 4, 64: 32}  # of all_to_all's bytes, which rules count for all ranks together
    found, _ = settle_packets({size: times_of(4, packets) for size in halved}, halved)
    assert found == limit


def test_a_variant_is_what_its_name_says() -> None:
    names = ["ring", "ring in slots", "ring in packets", "ring in a graph", "ring in slots in a graph"]
    assert [Variant.parse(name).name for name in names] == names
    assert Variant.parse("two_shot in packets in a graph") == Variant("two_shot", "packets", True)
    assert Variant.parse("ring").packet_bytes is None


def test_each_algorithm_has_a_variant_for_each_protocol_and_zero_copy_has_one() -> None:
    assert named(["ring", "zero_copy"], ["slots", "packets"], True) == [
        "ring in slots", "ring in packets", "zero_copy",
        "ring in slots in a graph", "ring in packets in a graph", "zero_copy in a graph",
    ]  # fmt: skip


def test_rules_of_the_host_know_no_zero_copy(tmp_path: Path) -> None:
    path = tmp_path / "tuning.json"
    entry = {"collective": "all_reduce", "transport": "shm", "world": 2, "rules": [[64, "zero_copy"]]}
    path.write_text(json.dumps({"version": 1, "entries": [entry]}))
    result = run("-c", CHOSEN, RINGTREE_TUNING=str(path))
    assert "there is no all_reduce by zero_copy" in result.stderr
