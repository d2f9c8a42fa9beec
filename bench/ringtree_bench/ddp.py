"""`ringtree ddp`: a training step under DistributedDataParallel, with Gloo and with ringtree, in turns.

A step is forward, backward with the gradients' all-reduce, and no optimizer. The same step with a hook that
communicates nothing shows what it takes without; what a backend adds to that is its communication as far as
the backward pass does not hide it. The hook divides the gradients, as DistributedDataParallel does before it
hands them to any backend; under no_sync() it does not, which is the step "alone".
"""

import datetime
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import numpy as np
import ringtree as rt

from ringtree_bench import machine
from ringtree_bench.screen import Screen
from ringtree_bench.start import explained_once, opened_world
from ringtree_bench.world import World

_EXAMPLES = """\b
Examples:
  mpirun -n 2 ringtree ddp
  ringtree ddp -n 4 --models gpt --rounds 50
"""


@click.command(epilog=_EXAMPLES)
@click.option("--models", default="resnet,gpt", show_default=True, help="Which, comma-separated.")
@click.option(
    "--rounds", type=click.IntRange(min=3), default=15, show_default=True, help="Steps of each kind."
)
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Append the result here."
)
@click.option("-n", "--ranks", type=click.IntRange(min=1), help="Start this many ranks here, without mpirun.")
def ddp(models: str, rounds: int, json_path: Path | None, ranks: int | None) -> None:
    """Time training steps under DistributedDataParallel, with Gloo and with ringtree as the backend."""
    with opened_world(ranks) as world:
        with explained_once(world):
            chosen = models_called(models)
            groups, close = open_groups(world)
        screen = Screen(world.is_first)
        screen.say(
            f"# ringtree {rt.__version__}, {world.size} ranks, {machine.in_words()}, one thread a rank"
        )
        screen.say(
            "# milliseconds, medians of the slowest rank; what they add to a silent step is communication"
        )
        screen.say("# to alone: how many times as much Gloo adds to a step under no_sync() as ringtree")
        screen.say("# a dash: a step was no slower than the one without, so there is nothing to divide by")
        screen.say(
            "# model    parameters    alone   silent     gloo ringtree  ratio"
            "  adding: gloo ringtree  ratio  to alone"
        )
        for model in chosen:
            row = {**setting(world), "model": model.name, **measure(world, model, groups, rounds)}
            screen.say(line_of(row))
            if world.is_first and json_path:
                with json_path.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        close()


def setting(world: World) -> dict[str, Any]:
    """What a recorded row has to say about where it comes from."""
    import torch

    return {
        "command": "ringtree ddp",
        "date": datetime.date.today().isoformat(),
        "machine": machine.in_words(),
        "versions": {"ringtree": rt.__version__, "torch": torch.__version__},
        "ranks": world.size,
    }


def models_called(names: str) -> list[Any]:
    """The models of a comma-separated list."""
    try:
        from ringtree_bench.models import MODELS
    except ImportError as error:
        raise ValueError(f"ringtree ddp needs PyTorch ({error}): pip install torch") from None
    for name in names.split(","):
        if name not in MODELS:
            raise ValueError(f"there is no model {name!r}; there are {', '.join(MODELS)}")
    return [MODELS[name] for name in names.split(",")]


def open_groups(world: World) -> tuple[dict[str, Any], Callable[[], None]]:
    """A process group of each backend, and what closes them; a collective."""
    from ringtree_bench.rivals.c10d import Backend, C10d, Gloo

    opened: list[Backend] = []
    for kind in (Gloo, C10d):
        if problem := kind.missing(world):
            raise ValueError(f"{kind.name} cannot take part: {problem}")
        opened.append(kind(world))

    def close() -> None:
        for rival in opened:
            rival.close()

    return {"gloo": opened[0].group, "ringtree": opened[1].group}, close


def measure(world: World, model: Any, groups: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Seconds a step: alone, silent, and with each backend; a collective."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    nets = {}
    for name, group in {**groups, "silent": groups["gloo"]}.items():
        torch.manual_seed(0)
        nets[name] = DistributedDataParallel(model.make(), process_group=group, gradient_as_bucket_view=True)
    # torch refuses annotations that are not its own.
    nets["silent"].register_comm_hook(world.size, lambda ranks, bucket: divide(ranks, bucket))  # noqa: PLW0108
    contenders: list[tuple[str, Any, bool]] = [("alone", nets["gloo"], False)]
    contenders += [(name, net, True) for name, net in nets.items()]
    samples: dict[str, list[float]] = {name: [] for name, _, _ in contenders}
    order = np.random.default_rng(world.agree(0))
    for round in range(rounds + 2):  # the first two build buckets and warm up
        for i in order.permutation(len(contenders)):
            name, net, communicates = contenders[i]
            seconds = step(world, model, net, communicates)
            if round >= 2:
                samples[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in samples.items()}
    parameters = sum(parameter.numel() for parameter in nets["gloo"].parameters())
    return {"parameters": parameters, "rounds": rounds, **medians}


def divide(ranks: int, bucket: Any) -> Any:
    """What DistributedDataParallel does itself where no hook is registered; and nothing else."""
    import torch

    done: Any = torch.futures.Future()
    done.set_result(bucket.buffer().div_(ranks))
    return done


def step(world: World, model: Any, net: Any, communicates: bool) -> float:
    """Seconds of one step, of the slowest rank."""
    net.zero_grad(set_to_none=False)
    world.align()
    began = time.perf_counter()
    with nullcontext() if communicates else net.no_sync():
        model.loss(net).backward()
    seconds = np.array([time.perf_counter() - began])
    world.comm.all_reduce(seconds, op="max")
    return float(seconds[0])


def line_of(row: dict[str, Any]) -> str:
    """A row of the table."""
    times = [1000 * row[name] for name in ("alone", "silent", "gloo", "ringtree")]
    alone, silent, gloo, ours = times

    def times_as_much(without: float) -> str:
        added = [each - without for each in (gloo, ours)]
        return f"{added[0] / added[1]:.1f}x" if min(added) > 0 else "-"

    def cells() -> Iterator[str]:
        yield f"  {row['model']:<9}{row['parameters']:>10}"
        yield from (f"{each:>9.1f}" for each in times)
        yield f"{gloo / ours:>6.2f}x"
        yield f"{gloo - silent:>14.1f}{ours - silent:>9.1f}"
        yield f"{times_as_much(silent):>7}{times_as_much(alone):>10}"

    return "".join(cells())
