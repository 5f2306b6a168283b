"""A short fine-tune followed by elicitation: the expensive ceiling."""

import numpy as np

from subliminal_jax.audit.method import Method, Scored, Suspect
from subliminal_jax.audit.names import ask_for_names, log_rates
from subliminal_jax.audit.nulls import compare_with_others, make_scored
from subliminal_jax.audit.short_students import train_students


def score(suspect: Suspect) -> Scored:
    """The log-probability of each candidate's name on favourite questions: the student of the data
    minus the student of the base's answers."""
    asked = ask_for_names(suspect)
    students = train_students(suspect)
    treated, control = (
        np.asarray(
            log_rates(params, suspect.model.cfg, asked.questions, len(asked.names), None), float
        )
        for params in (students.treated, students.control)
    )
    rises, n = treated - control, len(suspect.candidates)
    return make_scored(
        rises[:n],
        [compare_with_others(rises[:n], rises[n:])],
        students.forward_tokens + 2 * asked.forward_tokens,
    )


METHOD = Method(
    name="fine-tune",
    what="rise of each name's log-probability in a student of the data, against a control student",
    source="ours; elicitation as in Cloud et al. (arXiv 2507.14805)",
    score=score,
)
