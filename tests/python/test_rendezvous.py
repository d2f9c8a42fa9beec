import pytest
import ringtree as rt
from ringtree.launch import Launch
from ringtree.rendezvous import through_folder, through_parent, through_store
from ringtree.start import exchange_of


def test_a_folder_names_the_ranks_that_did_not_come_and_keeps_nothing_of_the_attempt(tmp_path):
    exchange = through_folder(f"file://{tmp_path}", 1, 3, 0.1)
    with pytest.raises(
        rt.Timeout, match=r"rank 1, init: ranks 0, 2 of 3 did not come to the rendezvous within 0.1 s"
    ) as caught:
        exchange(b"")
    assert caught.value.ranks == (0, 2)
    assert list(tmp_path.iterdir()) == []


def test_alone_a_rank_meets_itself():
    assert exchange_of(Launch(0, 1, "alone"), None, 1, {})(b"me") == [b"me"]


@pytest.mark.parametrize("address", ["tcp://host:1", "/tmp/folder", "file://relative"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(rt.InvalidArgument, match="must look like file:///some/folder"):
        exchange_of(Launch(0, 2, "torchrun"), address, 1, {})


def test_torchruns_variables_without_an_address_name_the_missing_one():
    pytest.importorskip("torch", reason="torch is not installed")
    with pytest.raises(rt.InvalidArgument, match="MASTER_ADDR"):
        through_store(0, 2, 1, {"RANK": "0", "WORLD_SIZE": "2"})


def test_a_parent_brings_payloads_of_different_lengths_to_the_members():
    def body(comm):
        return [bytes(part) for part in through_parent(comm, [2, 0])(b"x" * (comm.rank * 5))]

    assert rt.run_local(3, body) == [[b"x" * 10, b""]] * 3
