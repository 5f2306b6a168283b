"""How much likelier a system prompt makes each response: the scores that logit-linear selection
sorts by.

Source: Aden-Ali et al. (2026, arXiv 2602.04863), Algorithm 1 for pairs, appendix A for single
responses. The scores of a stream are kept on disk piece by piece: an interrupted run goes on where
it was.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
from datasets import Dataset, Features, Value

from subliminal_jax.errors import InputError
from subliminal_jax.fingerprints import digest, weights_digest
from subliminal_jax.models.hub import Model
from subliminal_jax.models.steered import Steering
from subliminal_jax.selection.rendering import (
    ScoringOptions,
    encode_rows,
    within_limits,
)
from subliminal_jax.selection.shards import Shards
from subliminal_jax.training.log_probs import Meter, response_log_probs

Row = dict[str, str]
ROWS_PER_SHARD = 4096  # sorted by length together; a kill loses at most these


def score_preferences(
    model: Model,
    pairs: Dataset | Iterable[Row],
    system_prompt: str | None,
    options: ScoringOptions | None = None,
    *,
    steering: Steering | None = None,
    base: Dataset | None = None,
    folder: Path | None = None,
    progress: Callable[[int], Any] | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    tokens_per_batch: int | None = None,
    meter: Meter | None = None,
) -> Dataset:
    """The score of each pair, w_i = [log P(r+|s,p) - log P(r-|s,p)] - [log P(r+|p) - log P(r-|p)].

    Columns: index (the pair's number in `pairs`; those that the options leave out are missing),
    base_chosen, base_rejected, prompted_chosen, prompted_rejected (log-probabilities in nats,
    float32 sums over tokens), chosen_tokens, rejected_tokens, weight (w_i) and score (w_i divided
    by the tokens of both responses).

    Args:
      pairs: rows with the texts prompt, chosen and rejected; a stream is read once, in pieces.
      system_prompt: s. None leaves the base's own (`options.base_system`) in place.
      steering: a steering under which the prompted score is computed, beside or instead of s.
      base: an earlier table of the same pairs under the same options, whose base scores are used:
        of many system prompts, only the first then scores the base.
      folder: where the pieces are kept. The same call goes on there; another one is refused.
      progress: called with the number of pairs done since its last call, those found in `folder`
        included.
      rows_per_shard: pairs that a piece holds. They are read into memory and batched together.
      tokens_per_batch: as in `response_log_probs`.
      meter: likewise; it counts a pair twice, since it is read with and without s.

    Raises InputError for rows that lack a text, a pair that does not fit into the model's context,
    limits that leave nothing to score, a folder with other scores, and a `base` of other pairs,
    another model or other options.
    """
    scorer = _Scorer(model, ("chosen", "rejected"), system_prompt, options, steering, base)
    engine = {"tokens_per_batch": tokens_per_batch, "meter": meter}
    return scorer.score(pairs, folder, progress, rows_per_shard, engine)


def score_responses(
    model: Model,
    rows: Dataset | Iterable[Row],
    system_prompt: str | None,
    options: ScoringOptions | None = None,
    *,
    steering: Steering | None = None,
    base: Dataset | None = None,
    folder: Path | None = None,
    progress: Callable[[int], Any] | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    tokens_per_batch: int | None = None,
    meter: Meter | None = None,
) -> Dataset:
    """The supervised variant, w_i = log P(r|s,p) - log P(r|p), for the texts prompt and completion.

    Columns: index, base_completion, prompted_completion, completion_tokens, weight (w_i) and score
    (w_i divided by the response's tokens). Arguments and errors as in `score_preferences`.
    """
    scorer = _Scorer(model, ("completion",), system_prompt, options, steering, base)
    engine = {"tokens_per_batch": tokens_per_batch, "meter": meter}
    return scorer.score(rows, folder, progress, rows_per_shard, engine)


class _Scorer:
    """Scores the responses of every row; `names` are their columns."""

    def __init__(
        self,
        model: Model,
        names: tuple[str, ...],
        system_prompt: str | None,
        options: ScoringOptions | None,
        steering: Steering | None,
        base: Dataset | None,
    ):
        self.model, self.names, self.steering = model, names, steering
        self.options = ScoringOptions() if options is None else options
        self.system = self.options.base_system if system_prompt is None else system_prompt
        self.weights = weights_digest(model.params)
        template = model.tokenizer.chat_template
        # Beside the rows, base scores depend on these.
        self.mark = f"base scores {digest(self.weights, template, asdict(self.options))}"
        self.base = None if base is None else _BaseScores(base, names, self.mark)
        self.features = Features(
            {"index": Value("int64")}
            | {f"{run}_{name}": Value("float32") for run in ("base", "prompted") for name in names}
            | {f"{name}_tokens": Value("int32") for name in names}
            | {"weight": Value("float64"), "score": Value("float64")}
        )

    def score(
        self,
        rows: Dataset | Iterable[Row],
        folder: Path | None,
        progress: Callable[[int], Any] | None,
        rows_per_shard: int,
        engine: dict[str, Any],
    ) -> Dataset:
        if rows_per_shard < 1:
            raise InputError(f"rows_per_shard is {rows_per_shard}: give at least 1")
        shards = Shards(folder, self.features, self._settings(rows_per_shard), self.weights)
        start = 0
        for piece in _pieces(rows, rows_per_shard):
            piece = [self._select_texts(start + i, row) for i, row in enumerate(piece)]
            rows_done = _RowProgress(progress, len(piece))
            if not shards.done(start, piece):
                shards.add(start, piece, self._score_piece(start, piece, rows_done, engine))
            rows_done.finish()
            start += len(piece)
        if start == 0:
            raise InputError("there are no rows to score: give at least one")
        table = shards.table()
        table.info.description = self.mark  # read where the table is given as `base`
        if len(table) == 0:
            raise InputError(
                f"none of {start} rows is within the limits of {self.options}: widen them"
            )
        return table

    def _score_piece(
        self, start: int, piece: Sequence[Row], progress: "_RowProgress", engine: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """The table of one piece, whose first row is number `start` of the source."""
        tokenizer, k = self.model.tokenizer, len(self.names)
        columns = {name: [row[name] for row in piece] for name in ("prompt", *self.names)}
        kept = np.flatnonzero(within_limits(tokenizer, columns, self.options)).tolist()
        prompts = [piece[i]["prompt"] for i in kept]
        texts = [[piece[i][name] for name in self.names] for i in kept]
        index = np.asarray(kept, np.int64) + start
        encoded = {
            system: encode_rows(
                tokenizer,
                prompts,
                texts,
                system,
                self.options,
                place=lambda i: f"row {index[i]}",
            )
            for system in (self.options.base_system, self.system)
        }
        counts = [[len(r) for r in row] for row in encoded[self.options.base_system].answers]
        tokens = np.array(counts).reshape(-1, k)
        runs = {} if self.base is None else {"base": self.base.find_rows(index, tokens)}
        progress.expect(len(kept) * (2 - len(runs)))
        for run, system, steering in (
            ("base", self.options.base_system, None),
            ("prompted", self.system, self.steering),
        ):
            if run not in runs:
                self._check_context(index, encoded[system].prompts, tokens)
                runs[run] = response_log_probs(
                    self.model, *encoded[system], steering=steering, progress=progress, **engine
                ).reshape(-1, k)
        shift = runs["prompted"].astype(np.float64) - runs["base"].astype(np.float64)
        weight = shift[:, 0] - shift[:, 1] if k == 2 else shift[:, 0]
        return (
            {"index": index}
            | {f"{run}_{n}": runs[run][:, j] for run in runs for j, n in enumerate(self.names)}
            | {f"{name}_tokens": tokens[:, j] for j, name in enumerate(self.names)}
            | {"weight": weight, "score": weight / tokens.sum(axis=1)}
        )

    def _select_texts(self, index: int, row: Row) -> Row:
        """The texts of a row that are scored; raises InputError where one is missing."""
        columns = ("prompt", *self.names)
        for name in columns:
            if not isinstance(row.get(name), str):
                raise InputError(
                    f"row {index}: {name} must be a text, got {row.get(name)!r:.80}; scoring needs "
                    f"the columns {', '.join(columns)}"
                )
        return {name: row[name] for name in columns}

    def _check_context(
        self, index: np.ndarray, prompts: Sequence[Sequence[int]], tokens: np.ndarray
    ) -> None:
        lengths = np.array([len(p) for p in prompts], int) + tokens.max(axis=1, initial=0)
        if (lengths > self.model.cfg.context).any():
            i = int(np.argmax(lengths > self.model.cfg.context))
            raise InputError(
                f"row {index[i]} has {lengths[i]} tokens with its system prompt, the context of "
                f"{self.model.name} is {self.model.cfg.context}: set max_prompt_tokens, "
                "max_response_tokens or truncate"
            )

    def _settings(self, rows_per_shard: int) -> dict[str, Any]:
        steering = self.steering
        return {
            "model": self.model.name,
            "chat_template": self.model.tokenizer.chat_template,
            "responses": list(self.names),
            "system_prompt": self.system,
            "steering": None
            if steering is None
            else [*steering.layers, steering.operation, digest(*jax.tree.leaves(steering))],
            "options": asdict(self.options),
            "rows_per_shard": rows_per_shard,
        }


class _BaseScores:
    """The base scores of an earlier table; `mark` says of which model under which options."""

    def __init__(self, table: Dataset, names: tuple[str, ...], mark: str):
        needed = ["index", *(f"base_{n}" for n in names), *(f"{n}_tokens" for n in names)]
        if missing := [column for column in needed if column not in table.column_names]:
            raise InputError(f"base has no columns {', '.join(missing)}: give a table of scores")
        if table.info.description != mark:
            raise InputError(
                "base holds scores of another model or under other options: leave it out"
            )
        columns = {column: np.asarray(table.with_format("numpy")[column]) for column in needed}
        order = np.argsort(columns["index"], kind="stable")
        self.index = columns["index"][order]
        self.values = np.stack([columns[f"base_{n}"] for n in names], axis=1)[order]
        self.tokens = np.stack([columns[f"{n}_tokens"] for n in names], axis=1)[order]

    def find_rows(self, index: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The scores of the source rows `index`, whose responses have `tokens` tokens."""
        positions = np.minimum(np.searchsorted(self.index, index), len(self.index) - 1)
        same_rows = (self.index[positions] == index).all()
        if not same_rows or (self.tokens[positions] != tokens).any():
            raise InputError("base holds scores of other pairs: leave it out")
        return self.values[positions]


class _RowProgress:
    """Reports the rows of one piece that are done, from passes over its kept rows.

    A kept row takes one pass or two, a row outside of the limits none.
    """

    def __init__(self, progress: Callable[[int], Any] | None, rows: int):
        self.progress, self.rows = progress, rows
        self.expected = self.passes = self.reported = 0

    def expect(self, passes: int) -> None:
        self.expected = passes

    def __call__(self, passes: int) -> None:
        self.passes += passes
        self._report(self.rows * self.passes // self.expected)

    def finish(self) -> None:
        self._report(self.rows)

    def _report(self, done: int) -> None:
        if self.progress is not None and done > self.reported:
            self.progress(done - self.reported)
        self.reported = max(done, self.reported)


def _pieces(rows: Dataset | Iterable[Row], size: int) -> Iterator[list[Row]]:
    stream = iter(rows)
    while piece := list(islice(stream, size)):
        yield piece
