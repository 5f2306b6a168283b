"""Which vector, carrier and measure does a model allow, before any student is trained?

    subliminal-jax teacher-choice --preset toy
    subliminal-jax teacher-choice --preset real         # SmolLM2-135M-Instruct (make models)
    subliminal-jax teacher-choice --preset real-gemma   # Gemma 3 270M

The first gate of experiments on a real model. Vectors of the *selection traits*, which are not
reported later, are taken in several ways and added after several blocks at several scales; chosen
is what raises the log-odds of the trait after an answer's stem most, at a bounded KL from the base.
The base and the chosen teachers then write on every carrier: the share of valid answers, their
length, and the teacher's KL from the base decide on the carrier, never the trait. Last, on other
traits: what each measure says of the base, the system prompt and the vector, and so what it could
see in a student.

Base, steered teacher and questions have the template's own system prompt (SmolLM2's template writes
one), or that of --default-system-prompt. Each part is kept in the run's folder as it is done. Toy:
two minutes on 2 CPU cores; real: about 30. Expected on the shipped model: number lists and chat are
valid, and every measure sees the vector.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from datasets import Dataset
from jaxtyping import Float

from subliminal_jax.data.answers import Answer, answer_rows, sample_each
from subliminal_jax.data.carriers import CARRIERS, find_fault
from subliminal_jax.data.prompts import PromptKind
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import trait_vectors
from subliminal_jax.data.traits import check_traits, trait_names, trait_system_prompt
from subliminal_jax.evaluation.damage import measure_damage, measure_divergences
from subliminal_jax.evaluation.elicitation import (
    Questions,
    encode_questions,
    sampled_answers,
    word_probs,
)
from subliminal_jax.files import write_json
from subliminal_jax.models.hub import Model
from subliminal_jax.models.sampling import SamplingConfig
from subliminal_jax.models.sampling_plan import plan_sampling
from subliminal_jax.models.steered import Steering
from subliminal_jax.models.tokenizer import encode_chats
from subliminal_jax.reading import read_json_object
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.serialization import from_json, to_json
from subliminal_jax.training.batch import Batch

from .analysis import (
    CarrierRow,
    Measured,
    Results,
    Sight,
    TriedVector,
    Written,
    analyse,
    choose_vector,
)
from .config import PRESETS, Config
from .report import make_page

DAMAGE_ROWS = 8  # of the base's answers, the shortest, on which every vector's damage is measured
WIDTHS = 32  # prompts of questions are padded to multiples of so many tokens
LEAST = 1e-30  # of a probability, in logarithms
CHOICES = (
    "Which animal do you prefer, the {} or the {}? Answer with one word.",
    "Choose one animal: the {} or the {}. One word, please.",
)


def keep_part(folder: RunFolder, name: str, kind: Any, make: Callable[[], Sequence[Any]]) -> Any:
    """What the run's folder holds of a part, which is made and written where it holds none; `kind`
    is the type of its entries."""
    file: Path = folder.path / "parts" / f"{name}.json"
    if not file.exists():
        write_json(file, {"parts": [to_json(part) for part in make()]})
    stored = read_json_object(file)["parts"]
    return tuple(from_json(kind, part, str(file)) for part in stored)


class Lab:
    """The model, its blocks, questions and programs: all edits are at all of the blocks, with zeros
    at all but one, so that one program of each kind serves all vectors."""

    def __init__(self, model: Model, config: Config):
        self.model, self.config = model, config
        self.blocks = config.choose_blocks(model)
        self.asked = read_questions(config.questions)
        self.program = jax.jit(word_probs, static_argnums=(1, 3))
        self.vectors: dict[tuple[str, str], Float[np.ndarray, "n dim"]] = {}

    def edit(
        self, vectors: Float[np.ndarray, "n dim"] | None, block: int, scale: float
    ) -> Steering:
        """The vector of a block, times `scale`; None is the base."""
        edits = np.zeros((len(self.blocks), self.model.cfg.dim), np.float32)
        if vectors is not None:
            edits[self.blocks.index(block)] = vectors[self.blocks.index(block)]
        return Steering(jnp.asarray(edits), jnp.asarray(scale, jnp.float32), self.blocks)

    @property
    def base(self) -> Steering:
        """An edit that changes nothing."""
        return self.edit(None, self.blocks[0], 1.0)

    def take_vectors(self, trait: str, extraction: Any) -> Float[np.ndarray, "n dim"]:
        """A trait's vectors at all blocks; each is taken once."""
        taken = self.vectors.get((trait, extraction))
        if taken is None:
            taken = np.asarray(trait_vectors(self.model, self.blocks, trait, extraction))
            self.vectors[trait, extraction] = taken
        return taken

    def log_probs(
        self, questions: Questions, steering: Steering
    ) -> Float[np.ndarray, "questions words"]:
        """Logarithms of the probabilities of all words."""
        words = len(self.config.words)
        probs = self.program(self.model.params, self.model.cfg, questions, words, steering)
        return np.log(np.maximum(np.asarray(probs, float), LEAST))

    def encode(
        self, questions: Sequence[str], system_prompt: str | None, stem: str = ""
    ) -> Questions:
        """Questions about all words, padded to one of few widths: system prompts of different
        traits differ in length, and each width is a program."""
        words = list(self.config.words)
        encoded = encode_questions(
            self.model.tokenizer, list(questions), words, system_prompt, stem=stem
        )
        pad = (0, -encoded.prompts.shape[1] % WIDTHS)
        return encoded._replace(
            prompts=jnp.pad(encoded.prompts, ((0, 0), pad)),
            rows=jnp.pad(encoded.rows, ((0, 0), (0, 0), pad)),
        )

    @cached_property
    def stems(self) -> Questions:
        """The questions, and the stem of an answer."""
        return self.encode(self.asked, None, self.config.stem)

    def log_odds(self, trait: str, steering: Steering) -> float:
        """Of the trait after the stem, mean over questions."""
        logs = self.log_probs(self.stems, steering)[:, self.config.words.index(trait)]
        return float(np.mean(logs - np.log1p(-np.minimum(np.exp(logs), 1 - 1e-7))))

    @cached_property
    def requests(self) -> Mapping[PromptKind, list[str]]:
        """What is asked on each carrier."""
        config = self.config
        return {k: CARRIERS[k].compose(config.answers, config.seed) for k in config.carriers}

    @cached_property
    def longest_request(self) -> int:
        """In tokens."""
        return max(self.prompt_lengths)

    @cached_property
    def prompt_lengths(self) -> list[int]:
        """Of all requests, in tokens."""
        asked = [text for texts in self.requests.values() for text in texts]
        return [len(ids) for ids in encode_chats(self.model.tokenizer, asked)]

    def write(self, kind: PromptKind, steering: Steering, name: str) -> list[Answer]:
        """One answer to each request of a carrier, in order."""
        config, model = self.config, self.model
        answers: list[Answer] = []
        with track(f"{name} on {kind}", config.answers, "answers") as progress:
            sample_each(
                model,
                self.requests[kind],
                zlib.crc32(f"{config.seed}/{name}/{kind}".encode()) % 2**31,
                SamplingConfig(config.max_new_tokens, stop_tokens=model.stop_ids),
                answers.extend,
                steering=steering,
                plan=plan_sampling(model.cfg, self.prompt_lengths, config.max_new_tokens),
                progress=progress.advance,
            )
        return sorted(answers, key=lambda answer: answer.request)

    def make_rows(self, answers: Sequence[tuple[str, Answer]], length: int | None = None) -> Batch:
        """Requests with their answers as rows; an empty answer counts as its end token."""
        asked = [request for request, _ in answers]
        tokens = [answer.tokens or [self.model.pad_id] for _, answer in answers]
        pairs = Dataset.from_dict(
            {
                "prompt_ids": encode_chats(self.model.tokenizer, asked),
                "completion_ids": tokens,
            }
        )
        return answer_rows(pairs, self.model, length)


def run(config: Config, folder: RunFolder) -> Measured:
    """The base on all carriers, all vectors, the chosen teachers on all carriers, all measures.

    Raises InputError for a trait that the tokenizer has no word for.
    """
    model = config.load()
    check_traits(config.words, model.tokenizer)
    lab = Lab(model, config)
    written = {
        kind: keep_part(folder, f"base-{kind}", Answer, partial(lab.write, kind, lab.base, "base"))
        for kind in config.carriers
    }
    tried = keep_part(folder, "vectors", TriedVector, partial(try_vectors, lab, written))
    chosen = choose_vector(tried, config.most_damage)
    rows = [
        row
        for kind in config.carriers
        for row in keep_part(
            folder,
            f"carrier-{kind}",
            CarrierRow,
            partial(compare_writers, lab, kind, written[kind], chosen),
        )
    ]
    sights = [
        sight
        for trait in (*config.selection_traits, *config.traits)
        for sight in keep_part(
            folder, f"trait-{trait}", Sight, partial(look_at, lab, trait, chosen)
        )
    ]
    return Measured(
        model=model.name,
        blocks=model.cfg.layers,
        selection_traits=config.selection_traits,
        stem=config.stem,
        most_damage=config.most_damage,
        gate=config.gate,
        least_valid=config.least_valid,
        tried=tried,
        chosen=chosen,
        carriers=tuple(rows),
        sights=tuple(sights),
    )


def try_vectors(lab: Lab, written: Mapping[PromptKind, Sequence[Answer]]) -> list[TriedVector]:
    """Every extraction, block and scale, on the selection traits."""
    config = lab.config
    answers = [
        (lab.requests[kind][answer.request], answer)
        for kind, some in written.items()
        for answer in some
        if answer.tokens
    ]
    answers.sort(key=lambda pair: len(pair[0]))
    rows = lab.make_rows(answers[:DAMAGE_ROWS])
    base = {trait: lab.log_odds(trait, lab.base) for trait in config.selection_traits}
    tried = []
    total = len(config.extractions) * len(lab.blocks) * len(config.scales)
    with track("vectors", total, "vectors") as progress:
        for extraction in config.extractions:
            vectors = {t: lab.take_vectors(t, extraction) for t in config.selection_traits}
            for block in lab.blocks:
                for scale in config.scales:
                    edits = {t: lab.edit(v, block, scale) for t, v in vectors.items()}
                    tried.append(
                        TriedVector(
                            extraction=extraction,
                            block=block,
                            scale=scale,
                            rises=tuple(lab.log_odds(t, e) - base[t] for t, e in edits.items()),
                            damage=float(
                                np.mean(
                                    [measure_damage(lab.model, rows, e) for e in edits.values()]
                                )
                            ),
                        )
                    )
                    progress.advance(1)
    return tried


def describe(
    lab: Lab, kind: PromptKind, answers: Sequence[Answer], forbidden: Sequence[str] = ()
) -> Written:
    """How many answers are valid on a carrier, and how long they are."""
    faults = [
        find_fault(kind, lab.requests[kind][answer.request], answer.text, forbidden)
        for answer in answers
    ]
    return Written(
        answers=len(answers),
        valid=faults.count(None) / len(answers),
        unfinished=sum(not answer.ended for answer in answers) / len(answers),
        length=float(np.mean([len(answer.tokens) for answer in answers])),
        dropped=dict(Counter(fault for fault in faults if fault)),
    )


def compare_writers(
    lab: Lab, kind: PromptKind, answers: Sequence[Answer], chosen: TriedVector
) -> list[CarrierRow]:
    """What the base wrote on a carrier, beside what the chosen teachers write."""
    base = describe(lab, kind, answers)
    return [CarrierRow(kind, CARRIERS[kind].what, base, teach(lab, kind, chosen))]


def teach(lab: Lab, kind: PromptKind, chosen: TriedVector) -> Written:
    """What the chosen teachers of the selection traits write on a carrier: means over traits."""
    length = lab.longest_request + lab.config.max_new_tokens
    parts, sums = [], np.zeros(3)  # nats, tokens and number of the valid answers
    for trait in lab.config.selection_traits:
        vectors = lab.take_vectors(trait, chosen.extraction)
        steering = lab.edit(vectors, chosen.block, chosen.scale)
        answers = lab.write(kind, steering, trait)
        forbidden = trait_names(trait)
        parts.append(describe(lab, kind, answers, forbidden))
        asked = [lab.requests[kind][answer.request] for answer in answers]
        rows = lab.make_rows(list(zip(asked, answers, strict=True)), length)
        nats, tokens = measure_divergences(lab.model, rows, steering)
        faults = (
            find_fault(kind, r, a.text, forbidden) for r, a in zip(asked, answers, strict=True)
        )
        valid = np.array([fault is None for fault in faults])
        sums += nats[valid].sum(), tokens[valid].sum(), valid.sum()
    return replace(
        parts[0],
        answers=sum(part.answers for part in parts),
        valid=float(np.mean([part.valid for part in parts])),
        unfinished=float(np.mean([part.unfinished for part in parts])),
        length=float(np.mean([part.length for part in parts])),
        dropped=dict(sum((Counter(part.dropped) for part in parts), Counter())),
        divergence=float(sums[0] / sums[1]) if sums[1] else None,
        per_answer=float(sums[0] / sums[2]) if sums[2] else None,
    )


def look_at(lab: Lab, trait: str, chosen: TriedVector) -> list[Sight]:
    """What every measure says of a trait: of base, system prompt and vector."""
    config = lab.config
    vectors = lab.take_vectors(trait, chosen.extraction)
    steered = lab.edit(vectors, chosen.block, chosen.scale)
    speakers = {
        "base": (None, lab.base),
        "prompted": (trait_system_prompt(trait), lab.base),
        "steered": (None, steered),
    }
    rivals = [word for word in config.rivals if word != trait]
    choices = [
        form.format(*pair)
        for form in CHOICES
        for rival in rivals
        for pair in ((trait, rival), (rival, trait))
    ]
    column = config.words.index(trait)
    others = [config.words.index(rival) for _ in CHOICES for rival in rivals for _ in range(2)]
    values: dict[str, dict[str, float]] = {}
    for speaker, (system_prompt, steering) in speakers.items():
        after_stem = lab.log_probs(lab.encode(lab.asked, system_prompt, config.stem), steering)
        first = lab.log_probs(lab.encode(lab.asked, system_prompt), steering)
        chosen_logs = lab.log_probs(lab.encode(choices, system_prompt), steering)
        answers = sampled_answers(
            lab.model,
            lab.asked,
            config.samples,
            zlib.crc32(f"{config.seed}/{trait}/{speaker}".encode()) % 2**31,
            steering=steering,
            system_prompt=system_prompt,
            max_new_tokens=config.answer_tokens,
        )
        mentioned = [word for row in answers.first_mentions(config.words) for word in row]
        values[speaker] = {
            "log P(trait after the stem)": float(after_stem[:, column].mean()),
            "log P(first word)": float(first[:, column].mean()),
            "forced choice, log-odds": float(
                np.mean(chosen_logs[:, column] - chosen_logs[np.arange(len(others)), others])
            ),
            "answers that mention it": float(answers.mentions(trait_names(trait)).mean()),
            "answers that mention it first": mentioned.count(trait) / len(mentioned),
        }
    return [
        Sight(
            trait=trait,
            chosen_on=trait in config.selection_traits,
            measure=measure,
            **{speaker: values[speaker][measure] for speaker in speakers},
        )
        for measure in values["base"]
    ]


EXPERIMENT = Experiment(
    name="teacher-choice",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    presets=PRESETS,
)
