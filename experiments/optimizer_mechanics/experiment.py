"""Why does AdamW pass a steering vector on, and SGD less? Competing explanations, arm by arm.

    subliminal-jax optimizer-mechanics
    subliminal-jax optimizer-mechanics --preset chat --model shipped-small

Each of eight traits' vectors makes a teacher, with data of its own draw; on them students of some
fifty arms, each with a seed of its own: the rules of Blank et al. 2026 as in their released code
(AdamW, RMSprop, SGD, momentum, signs; frozen maps of Adam's scales; rotations; LoRA against full
weights; clipping), forms that deviate from it, and tests that tell the explanations apart (the
largest coordinates masked or clipped, normalised steps, rates of their own for LoRA's A and B, a
living against a frozen statistic, batch sizes at equal steps, rare tokens out or weighted up).
Controls are trained on four draws of the plain base's data and held against every vector. Each
arm's learning rate is found on two further vectors that are not reported, with warm-up and decay; a
grid whose edge is the best is extended, at most four times. Judged are direction (EAS), size (share
of the vector) and effect (log P(trait)) of what a student learned, each minus its controls, with
95% intervals over vectors. The report ends with a table: explanation, what it predicts, what was
measured, verdict. Causal words rest on the arms; students at one loss are what
`optimizer-transmission` compares.

Cost: 49 arms x (8 students + 4 controls + 2 tuning vectors x 3 to 11 rates, 4 on average) = 980
students of 48 steps, or 47,000 student steps: an hour on 2 CPU cores with `shipped` (13 to 20 a
second), half of it with `shipped-small`. Interrupted, it goes on where it was. `full` (more steps,
full batches) is meant for a GPU.
"""

import numpy as np

from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.student_texts import write_student_texts
from subliminal_jax.runs.students import measure_teacher
from subliminal_jax.runs.vector_lab import VectorLab, prepare_lab
from subliminal_jax.steering.teacher import Teacher

from .analysis import Measured, ReferenceLogProbs, Results, analyse
from .claims import make_claims
from .config import PRESETS, Config
from .report import make_page
from .students import ArmTrainer


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher and the base, find the arms' rates, train them.

    Raises InputError for a trait without a word, too few answers that pass the filter, or maps of
    an AdamW that blew up at every rate.
    """
    lab = prepare_lab(config, folder)
    arms = ArmTrainer(lab, config)
    arms.train_all()
    write_student_texts(folder, lab.panel, config, lab.reported, lab.teachers)
    order = list(arms.plans)
    return Measured(
        **lab.describe(),
        steps=config.steps,
        reference=measure_references(lab),
        plans=tuple(arms.plans.values()),
        choices=tuple(sorted(arms.choices, key=lambda choice: order.index(choice.optimizer))),
        students=tuple(arms.students),
        tuning_students=tuple(arms.tuning_students),
        histories=arms.histories(),
    )


def measure_references(lab: VectorLab) -> ReferenceLogProbs:
    """What the base and each trait's teacher say, for the students to be held against."""
    traits = lab.settings.traits
    base = measure_teacher(lab.panel, Teacher())["word_log_prob"]
    words = [lab.panel.words.index(trait) for trait in traits]
    teachers = [
        measure_teacher(lab.panel, lab.teachers[trait])["word_log_prob"][word]
        for trait, word in zip(traits, words, strict=True)
    ]
    return ReferenceLogProbs(
        base=float(np.mean([base[word] for word in words])), teacher=float(np.mean(teachers))
    )


EXPERIMENT = Experiment(
    name="optimizer-mechanics",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
