"""The page of `teacher-choice`, from its results alone."""

import numpy as np

from subliminal_jax.reporting.page import Page, Text
from subliminal_jax.reporting.tables import Column, Table

from .analysis import Results

MOST_TRIED = 12  # vectors in the table, those with the largest rise


def make_page(results: Results) -> Page:
    """The carriers, the vectors, what each measure sees."""
    tables = carrier_table(results), vector_table(results), sight_table(results)
    return Page(
        title="Which teacher, carrier and measure does the model allow?",
        summary=summarise(results),
        blocks=[*tables, trait_table(results), Text(describe(results), "How it was chosen")],
        printed=tables,
    )


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    chosen = results.chosen
    text = (
        f"On {results.model} the vectors of {' and '.join(results.selection_traits)} taken at the "
        f"end of {chosen.extraction} prompts, added after block {chosen.block} of {results.blocks} "
        f"and scaled by {chosen.scale:g}, raise the log-odds of their traits by {chosen.rise:+.2f} "
        f"nats after the stem, at a KL of {chosen.damage:.2f} nats a token from the base. "
    )
    if results.passed:
        return text + (
            f"That passes the gate of {results.gate:g}. Their carrier is {results.chosen_carrier}."
        )
    if results.chosen_carrier is None:
        return text + (
            f"But on no carrier are {results.least_valid:.0%} of their answers valid: no steered "
            "trait is worth a student here."
        )
    return text + (
        f"The gate is {results.gate:g} nats at no more than {results.most_damage:g} nats a token: "
        "it is not passed, and no steered trait is worth a student here."
    )


def carrier_table(results: Results) -> Table:
    """One row a carrier."""
    columns = [
        Column("carrier", "carrier"),
        Column("base.valid", "valid", "rate", 0),
        Column("base.unfinished", "unfinished", "rate", 0),
        Column("base.length", "tokens", "number", 1),
        Column("teacher.valid", "teacher: valid", "rate", 0),
        Column("teacher.unfinished", "unfinished", "rate", 0),
        Column("teacher.length", "tokens", "number", 1),
        Column("teacher.divergence", "KL a token", "number", 3),
        Column("teacher.per_answer", "KL an answer", "number", 2),
    ]
    caption = (
        "Shares of the base's answers, and of the chosen teachers', that the carrier's filter "
        "keeps; KL: of the teacher from the base on its own valid answers, in nats."
    )
    return Table("Carriers", columns, results.carriers, caption)


def vector_table(results: Results) -> Table:
    """The vectors with the largest rise."""
    best = sorted(results.tried, key=lambda vector: -vector.rise)[:MOST_TRIED]
    columns = [
        Column("extraction", "taken on"),
        Column("block", "block", "count"),
        Column("scale", "scale", "number"),
        Column("rise", "rise of the log-odds", "number", 2),
        Column("damage", "damage (nats a token)", "number", 3),
    ]
    caption = (
        f"The {len(best)} of {len(results.tried)} with the largest rise, mean over "
        f"{' and '.join(results.selection_traits)}; chosen among those that damage by at most "
        f"{results.most_damage:g}."
    )
    return Table("Vectors", columns, best, caption)


def sight_table(results: Results) -> Table:
    """One row a measure, means over the traits that nothing was chosen on."""
    rows = []
    for measure in dict.fromkeys(sight.measure for sight in results.sights):
        sights = [s for s in results.sights if s.measure == measure and not s.chosen_on]
        means = {k: float(np.mean([getattr(s, k) for s in sights])) for k in SPEAKERS}
        seen = {f"{k}_seen": sum(getattr(s, k) > s.base for s in sights) for k in SPEAKERS[1:]}
        rows.append({"measure": measure, "traits": len(sights), **means, **seen})
    columns = [
        Column("measure", "measure"),
        Column("traits", "traits", "count"),
        *(Column(speaker, speaker, "number", 3) for speaker in SPEAKERS),
        Column("prompted_seen", "prompted above base", "count"),
        Column("steered_seen", "steered above base", "count"),
    ]
    caption = (
        f"Means over traits that nothing was chosen on. The stem is {results.stem!r}; a forced "
        "choice is between the trait and another animal, named in both orders."
    )
    return Table("What each measure sees", columns, rows, caption)


SPEAKERS = ("base", "prompted", "steered")


def trait_table(results: Results) -> Table:
    """One row a trait and measure."""
    columns = [
        Column("trait", "trait"),
        Column("measure", "measure"),
        *(Column(speaker, speaker, "number", 3) for speaker in SPEAKERS),
    ]
    return Table("By trait", columns, results.sights)


def describe(results: Results) -> str:
    """What was chosen on what."""
    return (
        f"Extraction, block and scale were chosen on {' and '.join(results.selection_traits)}, "
        "which are not for reporting, by the log-odds of the trait after the stem, the mean over "
        "questions; the damage is the KL of the steered model from the base on answers of the "
        "base. The carrier was chosen among those that the teachers write validly, by the KL of an "
        "answer. Base, steered teachers and questions have the system prompt that the template "
        "writes by itself, if any; prompted ones that of the trait in its place."
    )
