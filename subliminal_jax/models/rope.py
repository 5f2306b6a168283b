"""Rotary position embeddings: what a config.json says about them, in both spellings.

The older spelling is `rope_theta` and `rope_scaling` beside the other fields, that of transformers
5 an object `rope_parameters`. What one place leaves out is filled from the others in the order of
transformers (`RotaryEmbeddingConfigMixin.standardize_rope_params`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from subliminal_jax.models.config_fields import Fields
from subliminal_jax.models.families import Family

# The keys of an entry that each kind uses. Any other is refused, but null: transformers would pass
# over it, and the angles would be others than its author meant.
_KEYS = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": (
        "factor",
        "beta_fast",
        "beta_slow",
        "attention_factor",
        "mscale",
        "mscale_all_dim",
        "truncate",
        "original_max_position_embeddings",
    ),
}
_COMMON_KEYS = ("rope_type", "type", "rope_theta", "partial_rotary_factor")
# Bookkeeping of checkpoints whose kind does not use it.
_HARMLESS_KEYS = ("original_max_position_embeddings",)


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding: base `theta` and an optional rescaling of the frequencies.

    `kind` is "default", "linear" (positions divided by `factor`), "llama3" (long wavelengths
    divided by `factor`, short ones kept, interpolated between), or "yarn" (the same with other
    bounds: pairs that turn more than `beta_fast` times in the original context are kept, those that
    turn less than `beta_slow` times are divided; queries and keys are multiplied by
    `attention_factor`). The first `fraction` of each head is rotated.
    """

    theta: float = 10_000.0
    kind: Literal["default", "linear", "llama3", "yarn"] = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0
    fraction: float = 1.0

    def rotated(self, head_dim: int) -> int:
        """How many numbers of a head are rotated."""
        return int(head_dim * self.fraction)


def ropes_from_hf(fields: Fields, family: Family) -> tuple[Rope, Rope | None]:
    """The RoPE of the full-attention layers, and that of the sliding ones where it differs.

    Raises InputError for a kind that is not supported, a missing or impossible number, and a key
    that the kind does not use.
    """
    scaling, parameters = (_entry(fields, key) for key in ("rope_scaling", "rope_parameters"))
    theta = fields.raw.get(family.rope_theta_key, family.rope_theta)
    if family.local_theta is None:
        # Beside `rope_scaling`, transformers does not look at `rope_parameters`.
        return _rope(scaling or parameters or {}, theta, fields, family), None
    for key in parameters or {}:
        if key not in ("full_attention", "sliding_attention"):
            raise fields.error(
                f"rope_parameters has the key {key!r}; it must have the entries full_attention and "
                "sliding_attention"
            )
    nested = Fields(parameters or {}, fields.source)
    full, local = (_entry(nested, f"{kind}_attention") for kind in ("full", "sliding"))
    local_theta = family.local_theta
    if family.local_theta_key is not None:
        local_theta = fields.raw.get(family.local_theta_key, local_theta)
    if full is None:
        if parameters and scaling:
            raise fields.error("rope_scaling needs rope_parameters to have a full_attention entry")
        full = {} if parameters else {"rope_type": "default"}  # which rope_scaling updates
    return (
        _rope({**full, **(scaling or {})}, theta, fields, family, nested=True),
        _rope(local or {}, local_theta, fields, family, nested=True),
    )


def rope_to_hf(rope: Rope, family: Family) -> dict[str, Any]:
    """One RoPE entry in the spelling of transformers 5."""
    entry: dict[str, Any] = {"rope_type": rope.kind, "rope_theta": rope.theta}
    if rope.kind != "default":
        entry["factor"] = rope.factor
    if rope.kind == "llama3":
        entry["low_freq_factor"] = rope.low_freq_factor
        entry["high_freq_factor"] = rope.high_freq_factor
        entry["original_max_position_embeddings"] = rope.original_context
    if rope.kind == "yarn":
        entry["beta_fast"], entry["beta_slow"] = rope.beta_fast, rope.beta_slow
        entry["attention_factor"] = rope.attention_factor
        entry["original_max_position_embeddings"] = rope.original_context
    if family.rope_fraction is not None:
        entry["partial_rotary_factor"] = rope.fraction
    return entry


def _entry(fields: Fields, key: str) -> Mapping[str, Any] | None:
    value = fields.raw.get(key)
    return None if value is None else Fields(value, f"{fields.source}: {key}").raw


def _rope(
    entry: Mapping[str, Any], theta: Any, config: Fields, family: Family, nested: bool = False
) -> Rope:
    """One RoPE entry; `theta` is the base where the entry has none of its own."""
    context = config.count("max_position_embeddings")
    fraction_key = family.rope_fraction_key
    defaults = {
        "rope_theta": theta,
        "rope_type": entry.get("type", "default"),
        "partial_rotary_factor": config.raw.get(fraction_key, family.rope_fraction or 1.0),
        "original_max_position_embeddings": context,
    }
    # A length beside the entry counts more than the one in it, as in transformers; in nested
    # entries transformers does not look for it.
    length = "original_max_position_embeddings"
    if length in config.raw and not nested:
        entry = {**entry, length: config.raw[length]}
    fields = Fields({**defaults, **entry}, config.source)
    kinds = family.rope_kinds or tuple(_KEYS)
    kind: Any = fields.choice("rope_type", kinds, "RoPE scaling {} is not supported")
    for key, value in entry.items():
        if value is not None and key not in (*_COMMON_KEYS, *_HARMLESS_KEYS, *_KEYS[kind]):
            raise fields.error(f"{key} is not used by scaling of type {kind!r}; remove it")
    partial = fields.raw["partial_rotary_factor"]
    fraction = 1.0 if partial is None else fields.number("partial_rotary_factor")
    if fraction != 1 and family.rope_fraction is None:
        raise fields.error(f"partial_rotary_factor {partial} is not supported, only 1")
    if fraction > 1:
        raise fields.error(f"partial_rotary_factor must be at most 1, not {partial}")
    plain = Rope(theta=fields.number("rope_theta"), kind=kind, fraction=fraction)
    if kind == "default":
        return plain
    if kind == "linear":
        return replace(plain, factor=fields.number("factor"))
    if kind == "yarn":
        return _yarn(plain, fields)
    low, high = fields.number("low_freq_factor"), fields.number("high_freq_factor")
    if low >= high:
        raise fields.error(f"low_freq_factor {low} must be below high_freq_factor {high}")
    return replace(
        plain,
        factor=fields.number("factor"),
        low_freq_factor=low,
        high_freq_factor=high,
        original_context=fields.count("original_max_position_embeddings"),
    )


def _yarn(plain: Rope, fields: Fields) -> Rope:
    """YaRN (Peng et al. 2023, arXiv 2309.00071, sections 3.2 and 3.4); what is left out, or null,
    as transformers fills it."""

    def given(key: str, otherwise: float) -> float:
        return otherwise if fields.raw.get(key) is None else fields.number(key)

    if "truncate" in fields.raw and not fields.flag("truncate"):
        raise fields.error("truncate=false is not supported for scaling of type 'yarn'")
    factor = fields.number("factor")

    def magnitude(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    attention_factor = magnitude(1.0)
    if fields.raw.get("mscale") and fields.raw.get("mscale_all_dim"):
        mscale, whole = fields.number("mscale"), fields.number("mscale_all_dim")
        attention_factor = magnitude(mscale) / magnitude(whole)
    fast, slow = given("beta_fast", 32.0), given("beta_slow", 1.0)
    if slow > fast:
        raise fields.error(f"beta_slow {slow} must not be above beta_fast {fast}")
    return replace(
        plain,
        factor=factor,
        beta_fast=fast,
        beta_slow=slow,
        attention_factor=given("attention_factor", attention_factor),
        original_context=fields.count("original_max_position_embeddings"),
    )
