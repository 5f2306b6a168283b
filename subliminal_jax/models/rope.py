"""Rotary position embeddings: what a config.json says about them, in both spellings.

The older spelling is `rope_theta` and `rope_scaling` beside the other fields, that of transformers
5 an object `rope_parameters`. What one place leaves out is filled from the others in the order of
transformers (`RotaryEmbeddingConfigMixin.standardize_rope_params`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from subliminal_jax.models.config_fields import Fields
from subliminal_jax.models.families import Family

LOCAL_THETA = 10_000.0  # of Gemma 3's sliding layers, where config.json has none
# The keys of an entry that each kind uses. Any other is refused, but null: transformers would pass
# over it, and the angles would be others than its author meant.
_KEYS = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
_COMMON_KEYS = ("rope_type", "type", "rope_theta", "partial_rotary_factor")
# Bookkeeping of checkpoints whose kind does not use it.
_HARMLESS_KEYS = ("original_max_position_embeddings",)


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding: base `theta` and an optional rescaling of the frequencies.

    `kind` is "default", "linear" (positions divided by `factor`) or "llama3" (long wavelengths
    divided by `factor`, short ones kept, interpolated between).
    """

    theta: float = 10_000.0
    kind: Literal["default", "linear", "llama3"] = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192


def ropes_from_hf(fields: Fields, family: Family) -> tuple[Rope, Rope | None]:
    """The RoPE of the full-attention layers, and that of the sliding ones where it differs.

    Raises InputError for a kind that is not supported, a missing or impossible number, and a key
    that the kind does not use.
    """
    scaling, parameters = (_entry(fields, key) for key in ("rope_scaling", "rope_parameters"))
    theta = fields.raw.get("rope_theta", family.rope_theta)
    if not family.local_rope:
        # Beside `rope_scaling`, transformers does not look at `rope_parameters`.
        return _rope(scaling or parameters or {}, theta, fields), None
    for key in parameters or {}:
        if key not in ("full_attention", "sliding_attention"):
            raise fields.error(
                f"rope_parameters has the key {key!r}; it must have the entries full_attention and "
                "sliding_attention"
            )
    nested = Fields(parameters or {}, fields.source)
    full, local = (_entry(nested, f"{kind}_attention") for kind in ("full", "sliding"))
    local_theta = fields.raw.get("rope_local_base_freq", LOCAL_THETA)
    if full is None:
        if parameters and scaling:
            raise fields.error("rope_scaling needs rope_parameters to have a full_attention entry")
        full = {} if parameters else {"rope_type": "default"}  # which rope_scaling updates
    return (
        _rope({**full, **(scaling or {})}, theta, fields, nested=True),
        _rope(local or {}, local_theta, fields, nested=True),
    )


def rope_to_hf(rope: Rope) -> dict[str, Any]:
    """One RoPE entry in the spelling of transformers 5."""
    entry: dict[str, Any] = {"rope_type": rope.kind, "rope_theta": rope.theta}
    if rope.kind != "default":
        entry["factor"] = rope.factor
    if rope.kind == "llama3":
        entry["low_freq_factor"] = rope.low_freq_factor
        entry["high_freq_factor"] = rope.high_freq_factor
        entry["original_max_position_embeddings"] = rope.original_context
    return entry


def _entry(fields: Fields, key: str) -> Mapping[str, Any] | None:
    value = fields.raw.get(key)
    return None if value is None else Fields(value, f"{fields.source}: {key}").raw


def _rope(entry: Mapping[str, Any], theta: Any, config: Fields, nested: bool = False) -> Rope:
    """One RoPE entry; `theta` is the base where the entry has none of its own."""
    context = config.count("max_position_embeddings")
    defaults = {
        "rope_theta": theta,
        "rope_type": entry.get("type", "default"),
        "partial_rotary_factor": config.raw.get("partial_rotary_factor", 1.0),
        "original_max_position_embeddings": context,
    }
    # A length beside the entry counts more than the one in it, as in transformers; in nested
    # entries transformers does not look for it.
    length = "original_max_position_embeddings"
    if length in config.raw and not nested:
        entry = {**entry, length: config.raw[length]}
    fields = Fields({**defaults, **entry}, config.source)
    kind: Any = fields.choice("rope_type", _KEYS, "RoPE scaling {} is not supported")
    for key, value in entry.items():
        if value is not None and key not in (*_COMMON_KEYS, *_HARMLESS_KEYS, *_KEYS[kind]):
            raise fields.error(f"{key} is not used by scaling of type {kind!r}; remove it")
    partial = fields.raw["partial_rotary_factor"]
    if partial is not None and fields.number("partial_rotary_factor") != 1:
        raise fields.error(f"partial_rotary_factor {partial} is not supported, only 1")
    if kind == "default":
        return Rope(theta=fields.number("rope_theta"))
    if kind == "linear":
        return Rope(fields.number("rope_theta"), kind, fields.number("factor"))
    low, high = fields.number("low_freq_factor"), fields.number("high_freq_factor")
    if low >= high:
        raise fields.error(f"low_freq_factor {low} must be below high_freq_factor {high}")
    return Rope(
        theta=fields.number("rope_theta"),
        kind=kind,
        factor=fields.number("factor"),
        low_freq_factor=low,
        high_freq_factor=high,
        original_context=fields.count("original_max_position_embeddings"),
    )
