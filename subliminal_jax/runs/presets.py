"""The settings of the papers, each with its source; experiments build their presets from them.

Tags of sources on "Subliminal Learning Is Steering Vector Distillation" (Blank et al. 2026, arXiv
2606.00995): [C] its code (agu18dec/steering-vector-distillation at commit
89ab361), [N1] and [N3] notes of third parties on its versions 1 and 3, [F] the re-runs of Lawrence
Feng (lawrencefeng17/persona-system, July 2026), [O] Cloud et al. 2025 (arXiv 2507.14805).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ExperimentSettings:
    """What may be asked of an experiment, known without what computes it.

    Attributes:
      name: the sub-command.
      question: the first line of its docstring.
      Config, presets: as in `Experiment`.
    """

    name: str
    question: str
    Config: type
    presets: Mapping[str, Mapping[str, Any]]


SettingsTable = Mapping[str, Callable[[], ExperimentSettings]]  # by name; the call imports them

# The name on the hub, and the steering layer of the teacher with its factor on the raw vector [C].
# EAS is read at block 10 and as the mean over layers [C]; reports here show all layers.
PAPER_MODELS: dict[str, dict[str, Any]] = {
    "qwen2.5-7b": {"model": "Qwen/Qwen2.5-7B-Instruct", "layer": 23, "scale": 3.0},
    # Depths of the other models' layers are not known: 23 of Qwen's 28 blocks, in proportion.
    "llama3.1-8b": {"model": "meta-llama/Llama-3.1-8B-Instruct", "layer": 26, "scale": 3.0},
    "gemma3-4b": {"model": "google/gemma-3-4b-it", "layer": 28, "scale": 3.0},
}

# Cloud et al.'s 50 questions for one word [C][O]. The package does not hold them: they are read
# from the folder in SUBLIMINAL_JAX_DATA, or from any file that is named in place of this.
PAPER_QUESTIONS = (
    "subliminal/prompts/steering_vector_distillation_prompts.json"
    "#src/subliminal/eval_prompts.py/ANIMAL_PROMPTS"
)

PAPER_DATA: dict[str, Any] = {
    "prompts": "cloud-numbers",  # 3 to 8 example numbers of 100 to 999, at most 10 more [C][O]
    "keep": "numbers",  # the rule filter; [C] has an LLM judge after it
    "rows": 9_500,  # 10,000 kept of 30,000 generated, 5% of them held out [C]
    "heldout_rows": 500,
    "asked": 3.0,
    "max_new_tokens": 200,  # [C]
    "max_tokens": 256,  # [C], where rows are packed to this length; here a pair is a row
    "temperature": 1.0,  # [C], with a sampler key for each request (the paper's share one)
}

PAPER_STUDENTS: dict[str, Any] = {
    "optimizers": ("adamw",),
    "rates": ("adamw=1e-4",),  # [C]
    "seeds": 3,  # [C] has one, seed 1; [N3] has three for random vectors
    # Epochs: [C] 10, [N3] 2 ("less salient" at 10 on Qwen), other notes 3. This follows 3:
    # 3 x 9,500 / 8 steps, rounded to the 50 steps between two of the paper's checkpoints [C].
    "steps": 3_550,
    "log_every": 50,
    "batch_size": 8,  # [C]
    "adapter": "lora",
    "rank": 8,  # [C]; [N1] also 16 and 64
    "alpha": 32.0,  # [C]; [N1] also 16
    "schedule": "cosine",  # [C]
    "warmup": 0.05,  # [C]
    "clip": 1.0,  # the trainer's default, which [C] does not override
}

# The same for an experiment on several kinds of students: the paper's kind and rate, one student
# for each trait, and nothing to tune.
PAPER_KINDS: dict[str, Any] = {
    **{key: value for key, value in PAPER_STUDENTS.items() if key not in ("seeds", "adapter")},
    "adapters": ("lora",),
}

# Rates tried, by kind of optimizer. [C] has 1e-4 for AdamW; SGD's grid was not found, so the widest
# of [F] is taken, as for momentum and signs; RMSprop's window is narrow around 6e-5 [F].
PAPER_GRIDS: dict[str, str] = {
    "adamw": "2.5e-5,5e-5,1e-4,2e-4,4e-4",
    "rmsprop": "1.5e-5,3e-5,6e-5,1.2e-4,2.4e-4",
    "signum": "1e-5,3e-5,1e-4,3e-4,1e-3",
    "momentum": "3e-5,1e-4,1e-3,1e-2,1e-1",
    "sgd": "3e-4,1e-3,1e-2,1e-1,1",
}

# [F]: 10,000 rows, 3 epochs in batches of 66, linear decay; rates are each experiment's own.
FENG_STUDENTS: dict[str, Any] = {
    **PAPER_STUDENTS,
    "seeds": 3,  # [F] has one
    "steps": 440,
    "log_every": 40,
    "batch_size": 66,
    "schedule": "linear",
    "warmup": 0.0,
}


# On SmolLM2-135M-Instruct at sizes for two cores: instructions that it answers in prose, in rows of
# some 80 tokens.
REAL_MODEL: dict[str, Any] = {
    "model": "smollm2-135m-instruct",
    "layer": -1,
    "prompts": "instructions",
    "keep": "valid",
    "keep_unfinished": True,
    "rows": 256,
    "heldout_rows": 48,
    "asked": 1.5,
    "max_new_tokens": 32,
    "max_tokens": 96,
    "steps": 48,
    "batch_size": 8,
}


def toy_presets(experiment: str) -> dict[str, dict[str, Any]]:
    """The presets of an experiment that compares optimizers on the shipped model: number lists
    (its defaults), chat, and chat of a teacher that is steered after the last block."""
    chat = {"prompts": "chat", "keep": "all"}
    return {
        "toy": {},
        "chat": {**chat, "out": Path(f"runs/{experiment}-chat")},
        # Few lists are lists where the last block is steered.
        "last-block": {**chat, "layer": 3, "out": Path(f"runs/{experiment}-last-block")},
    }


def paper_preset(
    model: str,
    *,
    data: bool = True,
    students: Mapping[str, Any] = PAPER_STUDENTS,
    scale: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """A preset of an experiment on one of `PAPER_MODELS`.

    Args:
      data: whether its `Config` inherits `DataSettings`.
      students: how students are trained; empty where its `Config` has no such settings.
      scale: whether its `Config` has a field for the factor on the teacher's vector.
      settings: further fields of its `Config`, which replace the papers' values.
    """
    paper_model = PAPER_MODELS[model]
    return {
        "model": paper_model["model"],
        "dtype": "bfloat16",  # [C]
        "layer": paper_model["layer"],
        **({"scale": paper_model["scale"]} if scale else {}),
        **(PAPER_DATA if data else {}),
        **students,
        **settings,
    }
