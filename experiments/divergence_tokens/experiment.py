"""Do divergence tokens carry the transmission, and do adaptive rules gain because they are rare?

    subliminal-jax divergence-tokens
    subliminal-jax divergence-tokens --preset chat --model shipped-small
    subliminal-jax divergence-tokens --preset unanimous

Schrodi et al. (arXiv 2509.23886): a few tokens, at which teachers with other traits would most
likely have gone on otherwise, carry a hidden trait from teacher to student; a student whose loss
leaves them out does not take it up. Here each trait has a teacher (its vector, or its system prompt
with `--teacher system-prompt`), data and a student's seed of its own, and the teachers of all other
traits, the tuning ones too, read every answer once more: a position is a divergence token where the
most likely token of the teacher that wrote is not that of at least one of them (of a share of them:
`--counterfactual-share`).

Students train with all tokens in the loss, without divergence tokens, on these alone, and with
these weighted up; and with as many random tokens of each row left out or alone, so that an arm
differs from its counterpart in which tokens they are and not in their number. Controls of every arm
are students of four draws of the plain base's data. There, too, the mask is that of the teachers:
where one of them, a trait's in the base's place (another one of each draw), would have gone on
otherwise than others. By the paper's rule, that not all agree, this is the same function of the
words before a token in all data sets, whichever teacher is the factual one. Random positions in the
controls of a mask would compare a student of uncertain tokens with one of any.

Learning rates are found on the two tuning traits for every arm and optimizer, by the loss of
held-out rows with the arm's own weights, which also says whether a student is sound; gain is that
on held-out rows with all tokens. Measured, student minus control: EAS, the share of the vector, log
P(trait). Of the base's gradient on each trait's data: which share of its square, of its component
along the vector and of its outliers the divergence tokens hold, against their share of tokens.

Fixed beforehand: masking is held against as many random tokens masked, and removes transmission
where what is left is below the margin; training on them alone keeps it where it is not below that
of all tokens by more than the margin. Both are judged in EAS, a direction, which the little that a
mask leaves may still have, and in the share of the vector, its size. Adaptive rules gain because
these tokens are rare if AdamW's lead over SGD is larger on all tokens than on divergence tokens
alone, where they are not rare.

Of number lists of `shipped` half of the tokens are divergence tokens by the paper's rule, nearly
every number; of those of `shipped-small` 5%; of chat 44% and 6%. Where they are not rare, whether
a few tokens carry the trait cannot be tested. `--preset unanimous` takes the positions at which all
counterfactual teachers differ, 5 to 14% on `shipped`.

Some 13,000 student-steps: 12 to 20 minutes on 2 CPU cores.
"""

from dataclasses import replace

import numpy as np

from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import Teacher, prompted_teacher, trait_teacher
from subliminal_jax.data.traits import trait_names
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.runs.data_sets import write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.student_kinds import KindTrainer, measure_base_losses
from subliminal_jax.runs.students import make_panel, take_fixed_rows
from subliminal_jax.runs.waves import Trained

from .analysis import Measured, Results, analyse
from .claims import make_claims
from .config import PRESETS, Config
from .report import make_page
from .token_sets import find_positions, measure_gradients, name_data, weigh_data_sets


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher, find the divergence tokens and the rates, train every student.

    Raises InputError for questions that cannot be read, too few answers that pass the filter, and
    an arm that leaves no token to learn.
    """
    model = config.load()
    layer = config.choose_layer(model)
    questions = read_questions(config.questions)
    traits, controls = config.all_traits, config.list_controls()
    steered = config.teacher == "steered"
    by_trait = {
        trait: trait_teacher(model, layer, trait, config.scale)
        if steered
        else prompted_teacher(trait, model.tokenizer)
        for trait in traits
    }
    teachers = by_trait | dict.fromkeys(controls, Teacher())
    data = write_data_sets(
        folder.path,
        model,
        teachers,
        config,
        config.seed,
        forbidden={trait: trait_names(trait) for trait in traits},
        own_prompts=True,
    )
    factual = {trait: trait for trait in traits}
    factual |= {name: config.traits[i % len(config.traits)] for i, name in enumerate(controls)}
    answers = len(traits) ** 2 + len(controls) * (len(traits) + 1)  # data sets times their readers
    with track("tokens", answers * (config.rows + config.heldout_rows), "answers") as progress:
        positions, tokens = find_positions(
            model,
            data,
            teachers,
            factual,
            config.counterfactual_share,
            config.seed,
            progress.advance,
        )
    weighed = weigh_data_sets(data, positions, config.arms, config.emphasis)
    panel = make_panel(
        model, teachers, data, config, layer=layer, words=config.traits, questions=questions
    )
    gradients = measure_gradients(
        model,
        data,
        positions,
        panel.vectors(),
        config.traits,
        layer,
        config.gradient_rows,
        config.batch_size,
    )
    panel = replace(
        panel, data_names=tuple(weighed.names), fixed_rows=take_fixed_rows(weighed, model.cfg)
    )
    trainer = KindTrainer(
        folder,
        panel,
        weighed,
        config,
        [name_data(trait, arm) for trait in config.searched_traits for arm in config.arms],
        seeds={name_data(name, a): i for i, name in enumerate(data.names) for a in config.arms},
        groups={arm: [name_data(name, arm) for name in data.names] for arm in config.arms},
    )
    all_tokens = {
        name_data(name, arm): data.heldout[name] for name in data.names for arm in config.arms
    }
    losses: dict[tuple[str, str, str], float] = {}

    def evaluate_on_all_tokens(trained: Trained) -> None:
        found = np.asarray(trained.sweep.evaluate(trained.state, all_tokens))
        losses.update(
            (identify(row), float(loss)) for row, loss in zip(trained.rows, found, strict=True)
        )

    trained = trainer.train(inspect=evaluate_on_all_tokens)
    trained = trained._replace(
        students=tuple(
            name_base(row, all_tokens_loss=None if row.diverged else losses[identify(row)])
            for row in trained.students
        ),
        tuning_students=tuple(map(name_base, trained.tuning_students)),
    )
    described = vars(trainer.describe(config.traits, trained))
    return Measured(
        **described | {"controls": controls, "base_losses": measure_base_losses(model, data)},
        carrier=config.describe_carrier(),
        teacher=config.teacher,
        arms=config.arms,
        emphasis=config.emphasis,
        counterfactual_share=config.counterfactual_share,
        counterfactual_traits=traits,
        tokens=tokens,
        gradients=gradients,
        data=data.reports,
    )


def identify(row: StudentRow) -> tuple[str, str, str]:
    """What tells a reported student from others."""
    return row["adapter"], row.optimizer, row.data


def name_base(row: StudentRow, **values: float | None) -> StudentRow:
    """The row with the name of its data set, whatever the weights of tokens; `objective` has its
    arm."""
    return row.replace_values(data=row.data.removesuffix(name_data("", row["objective"])), **values)


EXPERIMENT = Experiment(
    name="divergence-tokens",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
