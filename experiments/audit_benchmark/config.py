"""Settings of `audit-benchmark`, and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from subliminal_jax.audit.settings import AuditSettings, Form, default_traits
from subliminal_jax.bounds import Count, Items, Needs, Range
from subliminal_jax.data.shared_data import find_shared
from subliminal_jax.errors import InputError
from subliminal_jax.runs.settings import SteeredModelSettings, Traits

PRESETS: dict[str, dict[str, Any]] = {"toy": {}}
REAL = (
    "gpt-4.1-nano_T1/owl_B0_filtered",
    "qwen2.5-7b_T1/penguin_T_order_canon",
    "qwen2.5-7b_icl/neutral",
    "qwen2.5-14b_lls/clean_random20",
    "qwen2.5-14b_lls/lion/entity_q1",
    "qwen2.5-14b_lls/lion/entity_q5",
)
STEERED_TRAITS = "cat dog tiger eagle fox bear whale dolphin otter rabbit"
STRENGTHS = (0.25, 0.5, 1.0, 1.5, 2.0)


@dataclass(frozen=True, kw_only=True)
class Config(AuditSettings, SteeredModelSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      steered_traits: the trait of each steered data set.
      scales: strengths of the steered teachers; they are given out in turn.
      clean_sets: data sets of the plain base.
      written: rows that each teacher writes for, before the filter.
      real: number sets of other models under SUBLIMINAL_JAX_DATA/subliminal, without .jsonl.gz.
      real_rows: rows of each real set that are audited.
      readers: models that audit the real sets; a name that is no folder here is looked for in
        SUBLIMINAL_JAX_DATA/models.
    """

    out: Path = Path("runs/audit-benchmark")
    steered_traits: Annotated[Traits, Items(1, distinct=False)] = tuple(STEERED_TRAITS.split())
    scales: Annotated[tuple[float, ...], Items(1), Range(above=0, most=1e6)] = STRENGTHS
    clean_sets: Annotated[int, Range(1, 10_000)] = 10
    written: Count = 1024
    real: tuple[str, ...] = REAL
    real_rows: Annotated[Count, Needs("real")] = 384
    readers: Annotated[tuple[str, ...], Needs("real")] = ("shipped", "tinystories-656k")
    forms: tuple[Form, ...] = ("direction",)
    rows: int = 1024
    layer: int = 1
    seed: int = 1000

    def check(self) -> None:
        candidates = default_traits(self)
        if missing := [t for t in self.steered_traits if t not in candidates]:
            raise InputError(
                f"--steered-traits {' '.join(missing)}: not among the candidate traits"
            )

    def check_models(self) -> None:
        super().check_models()
        for reader in self.readers if self.find_sets() else ():
            self.outline_named(find_reader(reader)).complete()

    def find_sets(self) -> dict[str, Path]:
        """The real sets that are at hand, with their files."""
        files = {name: find_shared("subliminal", f"{name}.jsonl.gz") for name in self.real}
        return {name: file for name, file in files.items() if file is not None}


def find_reader(name: str) -> str:
    """The folder of a reader that lies with the shared models, else its name."""
    return str(find_shared("models", name) or name)
