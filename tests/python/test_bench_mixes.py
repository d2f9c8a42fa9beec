"""Gradient buckets: the models' published sizes, and PyTorch's own way of filling buckets."""

from math import prod

import pytest
from ringtree_bench.mixes import BUCKET_BYTES, FIRST_BUCKET_BYTES, MIXES, Model, buckets, cases_of_mix

MODELS = {model.name: model for model in MIXES["gradients"]}


@pytest.mark.parametrize(
    ("name", "tensors", "parameters"), [("ResNet-50", 161, 25_557_032), ("GPT-2 small", 148, 124_439_808)]
)
def test_a_model_has_its_published_number_of_parameters(name: str, tensors: int, parameters: int) -> None:
    shapes = list(MODELS[name].shapes())
    assert (len(shapes), sum(map(prod, shapes))) == (tensors, parameters)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_buckets_are_those_of_distributed_data_parallel(model: Model) -> None:
    torch = pytest.importorskip("torch")
    dist = pytest.importorskip("torch.distributed")
    gradients = [torch.empty(shape, device="meta") for shape in reversed(list(model.shapes()))]
    indices, _ = dist._compute_bucket_assignment_by_size(gradients, [FIRST_BUCKET_BYTES, BUCKET_BYTES])
    expected = [sum(gradients[index].numel() for index in bucket) for bucket in indices]
    assert buckets(model.shapes(), 4) == expected


def test_pytorch_still_has_the_limits_that_the_mix_assumes() -> None:
    dist = pytest.importorskip("torch.distributed")
    assert dist._DEFAULT_FIRST_BUCKET_BYTES == FIRST_BUCKET_BYTES


def test_a_case_reduces_every_gradient_once() -> None:
    resnet, gpt2 = cases_of_mix("gradients", "float32", "avg", 2)
    assert (resnet.label, resnet.count, resnet.size_bytes) == ("ResNet-50", 25_557_032, 102_228_128)
    assert (gpt2.label, gpt2.count) == ("GPT-2 small", 124_439_808)
