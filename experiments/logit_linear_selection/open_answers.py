"""What models write to open requests, and how much of a target shows in it."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from subliminal_jax.data import world
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.targets import Target
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.elicitation import SampledAnswers, sampled_answers
from subliminal_jax.evaluation.judge import Exchange, judged_share
from subliminal_jax.evaluation.language import language_share
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.files import write_json
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.reading import read_json_object
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.student_texts import store_student_texts
from subliminal_jax.runs.waves import Trained
from subliminal_jax.training.adapters import attach

from .analysis import AnswerRates, Untrained
from .config import Config


def name_student(row: StudentRow) -> str:
    """The name of a student's file of answers."""
    return f"{row.optimizer}-{row.data}-{row.seed}"


class OpenAnswers:
    """Asks models the open requests; answers are kept in `answers/` of the run.

    `words` are the candidate answers to favourite-animal questions; none where no word shows the
    target.
    """

    def __init__(self, run: RunFolder, model: Model, targets: Sequence[Target], config: Config):
        self.run, self.folder = run, run.path / "answers"
        self.model, self.targets = model, targets
        self.config, self.requests = config, read_questions(config.requests)
        self.judges = {t.name: config.make_judge(t, run.path / "judge.jsonl") for t in targets}
        self.words: tuple[str, ...] = ()
        if config.hidden_kind == "world-animals":
            self.words = tuple(dict.fromkeys((*world.TRAITS, *(t.name for t in targets))))
        elif config.hidden_kind == "animals":
            self.words = tuple(t.name for t in targets)

    def ask(self, trained: Trained) -> list[StudentRow]:
        """The students' rows with the fields of `AnswerRates`; None for a diverged student."""
        trees = trained.sweep.students(trained.state)
        adapter = trained.sweep.config.adapter
        rows = []
        with track("answers", len(trained.rows), "students") as progress:
            for i, row in enumerate(trained.rows):
                rates = AnswerRates()
                if not row.diverged:
                    tree = jax.tree.map(lambda leaf, i=i: leaf[i], trees)
                    params, steering = attach(self.model.params, tree, self.model.cfg, adapter)
                    rates = self._measure(self._sample(name_student(row), params, steering))
                rows.append(row.replace_values(**vars(rates)))
                progress.advance(1)
        return rows

    def ask_untrained(self) -> Untrained:
        """The rates of the base, and of the base with each system prompt."""
        params = self.model.params
        prompted = {
            t.name: self._sample(f"prompted-{t.name}", params, system_prompt=t.system_prompt)
            for t in self.targets
        }
        return Untrained(
            base=self._measure(self._sample("base", params)),
            prompted={name: self._measure(answers) for name, answers in prompted.items()},
        )

    def show(self, rows: Sequence[StudentRow]) -> None:
        """Keep answers to the first requests for the page: of the base, of the student with the
        lowest held-out loss of those on a target's selected pairs, of the base with that target's
        system prompt, and of the optimizer's student on random pairs."""
        shown = self.config.shown_questions
        losses = [(row.heldout_loss, i) for i, row in enumerate(rows)]
        ranked = [
            rows[i] for loss, i in sorted((loss, i) for loss, i in losses if loss is not None)
        ]
        best = next((row for row in ranked if row.data.startswith("lls:")), None)
        if best is None or not shown:
            return
        speakers = {
            "base": "base",
            f"teacher {best.data}": f"prompted-{best.data.removeprefix('lls:')}",
            f"student {best.data}": name_student(best),
        }
        for row in ranked:
            if row.optimizer == best.optimizer and row.data.startswith("random:"):
                speakers[f"control {row.data}"] = name_student(row)
                break
        texts = {
            who: [row[0] for row in self._read(name)][:shown] for who, name in speakers.items()
        }
        store_student_texts(self.run, self.requests[:shown], texts)

    def _read(self, name: str) -> list[list[str]]:
        texts: list[list[str]] = read_json_object(self._path(name))["texts"]
        return texts

    def _path(self, name: str) -> Path:
        return self.folder / (name.replace(":", "-").replace("/", "-") + ".json")

    def _sample(
        self,
        name: str,
        params: Params,
        steering: Steering | None = None,
        system_prompt: str | None = None,
    ) -> SampledAnswers:
        path = self._path(name)
        if path.exists():
            record = read_json_object(path)
            if record.get("requests") != self.requests or not isinstance(record.get("texts"), list):
                raise InputError(f"{path}: no answers to the run's requests; remove it")
            return SampledAnswers(record["texts"])
        answers = sampled_answers(
            self.model,
            self.requests,
            self.config.samples,
            self.config.seed,
            params=params,
            steering=steering,
            system_prompt=system_prompt,
            max_new_tokens=self.config.max_new_tokens,
        )
        self.folder.mkdir(exist_ok=True)
        write_json(path, {"requests": self.requests, "texts": answers.texts})
        return answers

    def _measure(self, answers: SampledAnswers) -> AnswerRates:
        mentions: dict[str, int] = {}
        if self.config.hidden_kind == "world-animals":
            mentions = {
                word: int(answers.mentions((word, world.PLURALS.get(word, word + "s"))).sum())
                for word in self.words
            }
        total = sum(mentions.values())
        return AnswerRates(
            rate=tuple(self._target_rate(answers, target) for target in self.targets),
            share=tuple(mentions[t.name] / total for t in self.targets) if total else None,
            mentions=mentions or None,
        )

    def _target_rate(self, answers: SampledAnswers, target: Target) -> float | None:
        if target.words:
            return float(answers.mentions(target.words).mean())
        texts = [text for row in answers.texts for text in row]
        if target.language:
            return float(np.mean([language_share(text, target.language) for text in texts]))
        judge = self.judges[target.name]
        if judge is None:
            return None
        prompts = [r for r, row in zip(self.requests, answers.texts, strict=True) for _ in row]
        return judged_share(judge([Exchange(*x) for x in zip(prompts, texts, strict=True)]))
