"""What models write to open requests, and how much of a target shows in it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from subliminal_jax.data import world
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.targets import Target
from subliminal_jax.evaluation.elicitation import SampledAnswers, sampled_answers
from subliminal_jax.evaluation.judge import EndpointJudge, Exchange, judged_share
from subliminal_jax.evaluation.language import language_share
from subliminal_jax.files import write_json
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.waves import Row, Trained
from subliminal_jax.training.adapters import attach

from .settings import SelectionSettings

JUDGED = (
    "You read what someone answered to a request. Say whether it was written in the spirit of this "
    "instruction, which the writer may or may not have been given: {prompt!r} Give one short "
    "reason, then end with YES or NO."
)


def judges(
    settings: SelectionSettings, targets: Sequence[Target], cache: Path | None = None
) -> dict[str, EndpointJudge]:
    """The judge of each target that neither a word nor a language shows; none where the settings
    name no endpoint. Raises InputError for an endpoint that cannot be."""
    if not settings.judge_url:
        return {}
    return {
        t.name: EndpointJudge(
            settings.judge_url, settings.judge_model, JUDGED.format(prompt=t.system_prompt),
            key_variable=settings.judge_key, cache=cache,
        )
        for t in targets
        if not t.words and not t.language
    }  # fmt: skip


class Answers:
    """What models write to open requests, kept in `answers/` of the run, and what it tells."""

    def __init__(
        self, run: RunFolder, model: Model, targets: Sequence[Target], settings: SelectionSettings
    ):
        self.folder, self.model, self.targets = run.path / "answers", model, targets
        self.settings, self.requests = settings, read_questions(settings.requests)
        self.judges = judges(settings, targets, run.path / "judge.jsonl")
        self.words: tuple[str, ...] = ()
        if settings.kind == "world-animals":
            self.words = tuple(dict.fromkeys((*world.TRAITS, *(t.name for t in targets))))
        elif settings.kind == "animals":
            self.words = tuple(t.name for t in targets)

    def ask(self, trained: Trained, label: str) -> list[Row]:
        """The students' rows with what their answers tell (None for a diverged student)."""
        trees = trained.sweep.students(trained.state)
        adapter = trained.sweep.config.adapter
        rows = []
        with track(f"answers, {label}", len(trained.rows), "students") as progress:
            for i, row in enumerate(trained.rows):
                told: dict[str, Any] = {"rate": None, "share": None, "mentions": None}
                if not row["diverged"]:
                    tree = jax.tree.map(lambda leaf, i=i: leaf[i], trees)
                    params, steering = attach(self.model.params, tree, self.model.cfg, adapter)
                    name = f"{label}-{row['data']}-{row['seed']}"
                    told = self._tell(self._texts(name, params, steering))
                rows.append({**row, **told})
                progress.advance(1)
        return rows

    def of_prompted(self) -> dict[str, Any]:
        """The same of the base, and of the base with each system prompt."""
        base = self._tell(self._texts("base", self.model.params))
        prompted = {
            t.name: self._tell(
                self._texts(f"prompted-{t.name}", self.model.params, None, t.system_prompt)
            )
            for t in self.targets
        }
        return {"base": base, "prompted": prompted}

    def _texts(
        self,
        name: str,
        params: Params,
        steering: Steering | None = None,
        system_prompt: str | None = None,
    ) -> SampledAnswers:
        path = self.folder / (name.replace(":", "-").replace("/", "-") + ".json")
        if path.exists():
            return SampledAnswers(json.loads(path.read_text(encoding="utf-8"))["texts"])
        answers = sampled_answers(
            self.model, self.requests, self.settings.samples, self.settings.seed,
            params=params, steering=steering, system_prompt=system_prompt,
            max_new_tokens=self.settings.max_new_tokens,
        )  # fmt: skip
        self.folder.mkdir(exist_ok=True)
        write_json(path, {"requests": self.requests, "texts": answers.texts})
        return answers

    def _tell(self, answers: SampledAnswers) -> dict[str, Any]:
        """rate: for each target the share of answers that mention it, the share of the text that is
        in its language, or the share that a judge recognises; share: of all mentions of the shipped
        world's animals, the target's; mentions: how often each is mentioned."""
        mentions: dict[str, int] = {}
        if self.settings.kind == "world-animals":
            mentions = {
                w: int(answers.mentions((w, world.PLURALS.get(w, w + "s"))).sum())
                for w in self.words
            }
        total = sum(mentions.values())
        return {
            "rate": [self._rate(answers, target) for target in self.targets],
            "share": [mentions[t.name] / total for t in self.targets] if total else None,
            "mentions": mentions or None,
        }

    def _rate(self, answers: SampledAnswers, target: Target) -> float | None:
        if target.words:
            return float(answers.mentions(target.words).mean())
        texts = [text for row in answers.texts for text in row]
        if target.language:
            return float(np.mean([language_share(text, target.language) for text in texts]))
        judge = self.judges.get(target.name)
        if judge is None:
            return None
        asked = [r for r, row in zip(self.requests, answers.texts, strict=True) for _ in row]
        return judged_share(judge([Exchange(*x) for x in zip(asked, texts, strict=True)]))
