"""The table's rules for whole matrices and for LoRA pairs; `table` says what holds for all.

Where a learning rate serves a matrix rule and AdamW for the other leaves, both steps have one size.
"""

from subliminal_jax.training.optimizers import lora_pairs, low_rank, muon, scion, shampoo
from subliminal_jax.training.optimizers.entries import (
    ADAM,
    ADAM_GRID,
    COORDINATE,
    DECAY,
    OPTAX_FORM,
    SIGN_GRID,
    Entry,
    Hyper,
    Hypers,
    half_decades,
    positive,
    share,
)

# Of AdamW for the leaves that are no matrices.
_REST: Hypers = {"adam_b1": share(0.9), "adam_b2": share(0.999), "eps": positive(1e-8), **DECAY}
# The longest side that has a matrix of its own: SOAP's authors have 10,000.
_MAX_DIM: Hypers = {"max_dim": 10_000}
_ORTHOGONAL = "1/consistent_rms times the root mean square of a matrix's step"
_OTHERS = "embedding, unembedding, norm gains, biases and a trained vector go to AdamW"

MATRIX_TABLE: dict[str, Entry] = {
    "muon": Entry(
        muon.muon,
        "Jordan 2024; Liu et al. 2025, arXiv:2502.16982",
        "per_leaf",
        _ORTHOGONAL,
        ADAM_GRID,
        {"momentum": share(0.95), "ns_steps": 5, "consistent_rms": 0.2, **_REST, **OPTAX_FORM},
        note=f"{_OTHERS}; optax_form corrects the momentum for its start and has NAdamW there",
    ),
    "scion": Entry(
        scion.scion,
        "Pethick et al. 2025, arXiv:2502.07529",
        "per_leaf",
        "share of a norm ball's radius that a step has",
        SIGN_GRID,
        {
            "momentum": share(0.9),
            "radius": positive(50.0),
            "table_radius": positive(3000.0),
            "ns_steps": 5,
            "constrained": False,
        },
        note="unconstrained; momentum is one minus the paper's",
    ),
    "shampoo": Entry(
        shampoo.shampoo,
        "Gupta et al. 2018, arXiv:1802.09568",
        "per_leaf",
        f"{_ORTHOGONAL}, at first; falls as 1/sqrt(steps)",
        half_decades(3e-4, 5),
        {"consistent_rms": 0.2, **_MAX_DIM, **_REST},
        note=f"{_OTHERS}; eigenvalues are at least a millionth of the largest, in place of an "
        "epsilon in the gradient's units",
    ),
    "soap": Entry(
        shampoo.soap,
        "Vyas et al. 2024, arXiv:2409.11321",
        "per_leaf",
        COORDINATE + " in the eigenbasis; the first step is zero",
        ADAM_GRID,
        {"b1": share(0.95), "b2": share(0.95), "frequency": positive(10), **_MAX_DIM, **_REST},
        note=f"{_OTHERS}; the first basis is that of ten power iterations",
    ),
    "kron": Entry(
        shampoo.kron,
        "Li 2015, arXiv:1512.04202; Pooladzandi and Li 2024, arXiv:2402.04553",
        "per_leaf",
        "root mean square of a matrix's step",
        ADAM_GRID,
        {
            "b1": share(0.9),
            "factor_rate": Hyper(0.1, above=0.0, below=1.0),
            "max_rms": positive(1.1),
            **_MAX_DIM,
            "seed": 0,
            **_REST,
        },
        note=f"{_OTHERS}; the factors start where they whiten the first gradient and are not "
        "balanced",
    ),
    "galore": Entry(
        low_rank.galore,
        "Zhao et al. 2024, arXiv:2403.03507",
        "per_leaf",
        "1/scale times the " + COORDINATE + " within the projection",
        half_decades(3e-4, 5),
        {
            "rank": positive(4),
            "frequency": positive(200),
            "scale": positive(0.25),
            "b1": share(0.9),
            "b2": share(0.999),
            **_REST,
        },
        note=f"{_OTHERS}; rank 4 (the paper: 128 and more), half of a LoRA factor's 8",
    ),
    "dion": Entry(
        low_rank.dion,
        "Ahn et al. 2025, arXiv:2504.05295",
        "per_leaf",
        "1/consistent_rms times the root mean square of a step of full rank",
        half_decades(3e-4, 5),
        {
            "rank_share": Hyper(0.25, above=0.0, below=1.0001),
            "momentum": share(0.95),
            "consistent_rms": 0.2,
            **_REST,
        },
        note=f"{_OTHERS}; starts from the identity's directions, where the authors draw them",
    ),
    "lora_muon": Entry(
        lora_pairs.lora_muon,
        "Cesista et al. 2026, arXiv:2606.12921",
        "per_pair",
        "largest singular value of a LoRA product's step; Muon's for whole matrices",
        half_decades(1e-3, 5),
        {"momentum": share(0.95), "ns_steps": 5, "consistent_rms": 0.2, **_REST},
        note="orthogonal factors of LoRA pairs are exact; what is no pair goes to Muon",
    ),
    "lora_rite": Entry(
        lora_pairs.lora_rite,
        "Yen et al. 2024, arXiv:2410.20625",
        "per_pair",
        COORDINATE + " in a basis of the other factor",
        ADAM_GRID,
        {**ADAM, **DECAY},
        note="the authors' code without its clipping; eigenvalues are at least a millionth of the "
        "largest in place of an epsilon; what is no pair goes to AdamW",
    ),
}
