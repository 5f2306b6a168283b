"""Measure how fast your setting trains on the device at hand.

    subliminal-jax bench --model shipped --optimizers adamw muon --students 4 --batch-size 16
    subliminal-jax bench --model Qwen/Qwen2.5-7B-Instruct --dtype bfloat16 --length 512

A row for each optimizer with its students, and one for all together, as a comparison trains them:
tokens a second, seconds to compile (without the cache on disk), the memory that the program needs
with its weights, and the share of what the device computes at best in a product of matrices. Rows
are random tokens without padding, of which the second half is predicted.

Half a minute an optimizer on 2 free CPU cores for the shipped model.
"""

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from subliminal_jax.bounds import Count, Items, Needs, Positive, Range
from subliminal_jax.data.shared_data import resolve_shared
from subliminal_jax.errors import InputError
from subliminal_jax.escaping import print_line
from subliminal_jax.models.places import find_local_model

RESUMES = False
LARGEST_LENGTH = 1_000_000
OWN_RATE = 1e-3  # of an optimizer without default rates; what is timed does not depend on it


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is trained, and how.

    Attributes:
      model: "shipped", "shipped-small", a local folder in Hugging Face format, or a hub name.
      optimizers: of the registry, or MODULE:FUNCTION, with hyper-parameters.
      students: students of each optimizer.
      batch_size: rows in each step.
      length: tokens of a row.
      adapter: what a student trains: LoRA factors, or all weights.
      rank: LoRA rank.
      accumulation: micro-batches of a batch.
      steps: optimizer steps a call, as often as a run logs.
      seconds: how long each is measured.
      dtype: dtype of the weights; "checkpoint" keeps the checkpoint's.
      json: print JSON in place of a table.
    """

    model: str = "shipped"
    optimizers: Annotated[tuple[str, ...], Items(1, distinct=True)] = ("adamw",)
    students: Count = 1
    batch_size: Count = 16
    length: Annotated[int, Range(2, LARGEST_LENGTH)] = 128
    adapter: Literal["lora", "full"] = "lora"
    rank: Annotated[int, Range(1, 65_536), Needs("adapter", ("lora",))] = 8
    accumulation: Count = 1
    steps: Count = 8
    seconds: Positive = 5.0
    dtype: Literal["float32", "bfloat16", "checkpoint"] = "float32"
    json: bool = False


def check(config: Config) -> None:
    """Raises InputError for settings that do not go together, an unknown optimizer and a model that
    is not there."""
    if config.batch_size % config.accumulation:
        raise InputError(
            f"--batch-size {config.batch_size} must be a multiple of --accumulation "
            f"{config.accumulation}: change one of them"
        )
    find_local_model(resolve_shared(config.model))
    from subliminal_jax.training.optimizers import OptimizerSpec

    for text in config.optimizers:
        OptimizerSpec.parse(text)


def main(config: Config) -> None:
    """Print the table, or JSON.

    Raises InputError for rows longer than the model's context, a rank that does not fit it, and
    where the students or the program do not fit the device's memory.
    """
    import jax

    from subliminal_jax.ceilings import make_product_meter
    from subliminal_jax.compilation import no_compilation_cache
    from subliminal_jax.models.hub import load_model, sketch_model
    from subliminal_jax.runs import speed
    from subliminal_jax.runs.progress import track
    from subliminal_jax.training.adapters import Full, LoRA, check_rank
    from subliminal_jax.training.arms import Arm, TrainConfig
    from subliminal_jax.training.optimizers import OptimizerSpec

    dtype = None if config.dtype == "checkpoint" else config.dtype
    source = resolve_shared(config.model)
    outline = sketch_model(source)
    if config.length > outline.cfg.context:
        raise InputError(
            f"--length {config.length} is more than the context of {outline.name}, "
            f"{outline.cfg.context} tokens: give a shorter one"
        )
    adapter = Full() if config.adapter == "full" else LoRA(config.rank)
    check_rank(adapter, outline.cfg)
    model = load_model(source, dtype=dtype)
    plan = TrainConfig(
        steps=config.steps,
        batch_size=config.batch_size,
        adapter=adapter,
        accumulation=config.accumulation,
        log_every=config.steps,
    )
    waves = []
    for text in config.optimizers:
        spec = OptimizerSpec.parse(text)
        rate = (*spec.entry.grid, OWN_RATE)[0]
        waves.append([Arm(spec, rate, seed, "rows") for seed in range(config.students)])
    if len(waves) > 1:
        waves.append([arm for wave in waves for arm in wave])
    weights = str(model.params["embed"].dtype)
    ceiling = make_product_meter(weights)()
    speeds: list[speed.Speed] = []
    with no_compilation_cache(), track("measuring", len(waves), "programs") as progress:
        for arms in waves:
            try:
                speeds.append(
                    speed.measure_speed(model, arms, plan, config.length, config.seconds, ceiling)
                )
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                raise InputError(
                    f"{len(arms)} students of {arms[0].optimizer.label} do not fit the device's "
                    "memory: give fewer --students, a smaller --batch-size or more --accumulation"
                ) from error
            progress.advance()
    device = jax.local_devices()[0]
    found = {
        "model": model.name,
        "device": f"{device.platform}: {device.device_kind}",
        "weights": weights,
        "ceiling_flops": ceiling,
        "programs": [asdict(measured) for measured in speeds],
    }
    if config.json:
        print(json.dumps(found, indent=1))
    else:
        _print(config, found)


def _print(config: Config, found: dict[str, Any]) -> None:
    from subliminal_jax.memory import show_bytes
    from subliminal_jax.reporting.tables import Column, Table, print_table, wide_console

    rows = [
        {
            **row,
            "tokens": round(row["tokens_per_second"]),
            "milliseconds": 1000 * row["step_seconds"],
            "memory": "unknown" if row["memory_bytes"] is None else show_bytes(row["memory_bytes"]),
        }
        for row in found["programs"]
    ]
    columns = [
        Column("optimizers", "optimizers"),
        Column("students", "students", "count"),
        Column("tokens", "tokens a second", "count"),
        Column("milliseconds", "ms a step", "number", 1),
        Column("compile_seconds", "s to compile", "number", 1),
        Column("memory", "memory"),
        Column("share", "share of the ceiling", "rate", 0),
    ]
    title = (
        f"{found['model']}, {config.adapter}: {config.batch_size} rows of {config.length} tokens a "
        "student and step"
    )
    caption = f"{found['device']}: {found['ceiling_flops'] / 1e9:,.0f} GFLOP a second in a product"
    print_table(Table(title, columns, rows, f"{caption} of {found['weights']}"), wide_console())
    print_line("the memory is what the program needs, weights, students and activations")
