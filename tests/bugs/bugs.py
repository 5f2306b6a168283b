"""The bugs: each replaces one piece of code by another that runs, and gives plausible numbers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bug:
    """One bug.

    Attributes:
      name: what it breaks.
      file: in `subliminal_jax/`.
      right, wrong: the text of the code, which is there once, and what replaces it.
      tests: in `tests/`, files and folders that are run until one fails; the likeliest come first.
    """

    name: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


MODELS = ("models/test_golden.py", "models/test_forward.py", "models/test_sampling.py")
TRAINING = ("training/test_losses.py", "training/test_sweep.py")
OPTIMIZERS = ("training/test_optimizer_references.py", "training/test_optimizers.py")

BUGS = (
    Bug(
        "mask: a sliding window is one token too wide",
        "models/attention.py",
        "mask &= q - k < window",
        "mask &= q - k <= window",
        ("models/test_forward.py", "models/test_sampling.py"),
    ),
    Bug(
        "mask: packed documents see those before them",
        "models/block.py",
        "mask = same[:, None] & (distance >= 0)",
        "mask = (same | True)[:, None] & (distance >= 0)",
        ("models/test_forward.py", "training/test_layout.py"),
    ),
    Bug(
        "rope: the rotation has the other sign",
        "models/attention.py",
        "swapped = jnp.concatenate([-right, left], axis=-1)",
        "swapped = jnp.concatenate([right, -left], axis=-1)",
        MODELS,
    ),
    Bug(
        "rope: Llama 3 scales the frequencies that it should keep",
        "models/attention.py",
        "return keep * f + (1 - keep) * f / rope.factor",
        "return (1 - keep) * f + keep * f / rope.factor",
        ("models/test_rope.py", "models/test_forward.py"),
    ),
    Bug(
        "norm gain: the MLP reads that of the attention",
        "models/block.py",
        'x = norm(h, w, "mlp_norm", cfg) if cfg.pre_norms else h',
        'x = norm(h, w, "attn_norm", cfg) if cfg.pre_norms else h',
        MODELS,
    ),
    Bug(
        "attention: query heads are matched with the wrong keys",
        "models/attention.py",
        "rows = q.reshape(B, T, K, G, d).transpose(0, 2, 3, 1, 4).reshape(B, K, G * T, d)",
        "rows = q.reshape(B, T, G, K, d).transpose(0, 3, 2, 1, 4).reshape(B, K, G * T, d)",
        MODELS,
    ),
    Bug(
        "steering: all layers get the vector of the first",
        "models/stack.py",
        "return edit(h, steering.vectors[i], steering, target)",
        "return edit(h, steering.vectors[0], steering, target)",
        ("models/test_forward.py",),
    ),
    Bug(
        "steering: the scale acts twice",
        "models/steered.py",
        "            delta = s * v\n",
        "            delta = s * s * v\n",
        ("models/test_forward.py", "steering"),
    ),
    Bug(
        "sampling key: all tokens of an answer are drawn with the same numbers",
        "models/sampling_programs.py",
        "two_uniforms(keys, s.step),",
        "two_uniforms(keys, 0 * s.step),",
        ("models/test_sampling.py", "models/test_draw.py"),
    ),
    Bug(
        "sampling: log-probabilities are divided by the temperature",
        "models/sampling_programs.py",
        "log_prob = jnp.where(s.finished, 0.0, log_prob)",
        "log_prob = jnp.where(s.finished, 0.0, log_prob / temperature)",
        ("models/test_sampling.py",),
    ),
    Bug(
        "sampling: the nucleus holds one token too few",
        "models/draw.py",
        "before * weight < need[:, None]))",
        "(before + 1) * weight < need[:, None]))",
        ("models/test_draw.py", "models/test_sampling.py"),
    ),
    Bug(
        "LoRA scale: alpha over the root of the rank",
        "training/adapters.py",
        "(math.sqrt(rank) if self.rslora else rank)",
        "math.sqrt(rank)",
        ("training/test_adapters.py", "training/test_adapters_io.py"),
    ),
    Bug(
        "LoRA scale: students of a smaller rank get that of the largest",
        "training/sweep.py",
        "ranks = [g.rank or adapter.rank for g in self.groups for _ in range(g.slots)]",
        "ranks = [self.rank for g in self.groups for _ in range(g.slots)]",
        ("training/test_sweep.py",),
    ),
    Bug(
        "loss mask: the weights are those of the tokens before",
        "training/losses.py",
        "weights, targets = rows.loss_mask[:, 1:], rows.tokens[:, 1:]",
        "weights, targets = rows.loss_mask[:, :-1], rows.tokens[:, 1:]",
        TRAINING,
    ),
    Bug(
        "loss: the mean is over rows, not tokens, with accumulation",
        "training/student_loss.py",
        "return jax.tree.map(jnp.add, sums, part_sums), None",
        "return jax.tree.map(lambda a, b: (a + b) / 2, sums, part_sums), None",
        ("training/test_sweep.py", "training/test_losses.py"),
    ),
    Bug(
        "KL: the divergence of the teacher from the student",
        "training/losses.py",
        "return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)",
        "return jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=-1)",
        TRAINING,
    ),
    Bug(
        "DPO: beta scales the loss, not the margin",
        "training/preference.py",
        "return -jax.nn.log_sigmoid(beta * margins)",
        "return -beta * jax.nn.log_sigmoid(margins)",
        ("training/test_preference.py",),
    ),
    Bug(
        "DPO: the reference is added",
        "training/preference.py",
        "pair_losses(ratios - reference, self.beta)",
        "pair_losses(ratios + reference, self.beta)",
        ("training/test_preference.py",),
    ),
    Bug(
        "schedule: the warm-up starts at zero",
        "training/arms.py",
        "ramp = jnp.minimum((count + 1) / (warm + 1), 1.0)",
        "ramp = jnp.minimum(count / (warm + 1), 1.0)",
        ("training/test_arms.py", "training/test_sweep.py"),
    ),
    Bug(
        "order: the rows that a student sees depend on the others of its sweep",
        "training/arms.py",
        "keys = list(dict.fromkeys((arm.seed, arm.rows) for arm in arms))\n    orders = []\n"
        "    for seed, count in keys:\n        rng = np.random.default_rng([seed, 0x5EED])",
        "keys = list(dict.fromkeys((arm.seed, arm.rows) for arm in arms))\n    orders = []\n"
        "    for seed, count in keys:\n        rng = np.random.default_rng([len(orders), 0x5EED])",
        ("training/test_arms.py", "training/test_sweep.py"),
    ),
    Bug(
        "resume: the optimizers begin anew",
        "training/loop.py",
        "        state = from_stored(sweep, checkpoints.restore(to_stored(sweep, state)))\n",
        "        fresh = state.optimizer_states\n"
        "        state = from_stored(sweep, checkpoints.restore(to_stored(sweep, state)))\n"
        "        state = state._replace(optimizer_states=fresh)\n",
        ("training/test_checkpoints.py", "training/test_sweep.py"),
    ),
    Bug(
        "optimizers: Muon without Nesterov's step",
        "training/optimizers/muon.py",
        "mixed = running_mean(g, mean, momentum)",
        "mixed = mean",
        OPTIMIZERS,
    ),
    Bug(
        "optimizers: a rule of whole matrices mixes the layers",
        "training/optimizers/stacking.py",
        "return (jax.vmap(rule.update) if is_stacked(path) else rule.update)(u, s, p)",
        "return rule.update(u, s, p)",
        OPTIMIZERS,
    ),
    Bug(
        "optimizers: the correction for the start is one step late",
        "training/optimizers/separating.py",
        "count = state.steps + 1\n        mean = optax.tree.update_moment(g, state.mean, b1, 1)",
        "count = state.steps + 2\n        mean = optax.tree.update_moment(g, state.mean, b1, 1)",
        ("training/test_separating_rules.py", *OPTIMIZERS),
    ),
    Bug(
        "EAS: the sign",
        "diagnostics/alignment.py",
        "return mean_activation(student, probe, cfg, layers, steering, at) - base_mean",
        "return base_mean - mean_activation(student, probe, cfg, layers, steering, at)",
        ("diagnostics/test_alignment.py",),
    ),
    Bug(
        "share of the vector: divided by the shift's length",
        "diagnostics/alignment.py",
        "return jnp.where(nonzero, jnp.linalg.norm(shift, axis=-1) / safe_norm(vector), 0.0)",
        "return jnp.where(nonzero, safe_norm(vector) / jnp.linalg.norm(shift, axis=-1), 0.0)",
        ("diagnostics/test_alignment.py",),
    ),
    Bug(
        "vectors: the difference of contrasts has the other sign",
        "steering/contrastive.py",
        "differences = h[:, 0] - h[:, 1]",
        "differences = h[:, 1] - h[:, 0]",
        ("steering/test_contrastive.py",),
    ),
    Bug(
        "propensity: edits at the prompt's last token only",
        "steering/propensity.py",
        "last = branches.counts[None, :, :, None, None] - 1",
        "last = 0 * branches.counts[None, :, :, None, None]",
        ("steering/test_propensity.py", "steering/test_activations.py", "steering"),
    ),
    Bug(
        "length normalisation: by the chosen answer alone",
        "selection/scoring.py",
        '"score": weight / tokens.sum(axis=1)',
        '"score": weight / tokens[:, 0]',
        ("selection/test_scoring.py",),
    ),
    Bug(
        "selection: rows without a positive score count in the quantile",
        "selection/select.py",
        "positive = int((values > 0).sum())\n    return order",
        "positive = len(values)\n    return order",
        ("selection/test_select.py",),
    ),
    Bug(
        "matching: a level outside of the runs is read at the nearest",
        "evaluation/matching.py",
        "        if min(before, after) <= level <= max(before, after):",
        "        if level <= max(before, after):",
        ("evaluation/test_matching.py",),
    ),
    Bug(
        "rate choice: a student that blew up counts as sound",
        "evaluation/rate_search.py",
        "return row.heldout_loss is not None and row.heldout_loss <= base_losses[row.data]",
        "return row.heldout_loss is not None",
        ("evaluation/test_rate_search.py",),
    ),
    Bug(
        "intervals: skewness is corrected towards the wrong side",
        "evaluation/hall.py",
        "mean - invert(quantile, skewness, n)",
        "mean - invert(quantile, -skewness, n)",
        ("evaluation/test_over_vectors.py",),
    ),
    Bug(
        "intervals: the test of a null reads its standard error from a clipped end",
        "evaluation/p_values.py",
        "interval.unclipped or (interval.low, interval.high)",
        "(interval.low, interval.high)",
        ("evaluation/test_metric_ranges.py",),
    ),
    Bug(
        "verdicts: what a claim presupposes is forgotten",
        "evaluation/claims.py",
        "p = max([p, *(each.p_value() for each in self.presupposes)])",
        "p = max([p])",
        ("evaluation/test_claims.py",),
    ),
    Bug(
        "verdicts: one step of Holm's correction too few",
        "evaluation/p_values.py",
        "(len(p_values) - rank) * p_values[i]",
        "(len(p_values) - rank - 1) * p_values[i]",
        ("evaluation/test_claims.py",),
    ),
    Bug(
        "intervals: a one-sided quantile",
        "evaluation/statistics.py",
        "stats.t.ppf((1 + level) / 2, x.size - 1)",
        "stats.t.ppf(level, x.size - 1)",
        ("evaluation/test_statistics.py",),
    ),
    Bug(
        "filter: numbers above 999 pass",
        "data/filters.py",
        "if max(numbers) > MAX_NUMBER:",
        "if min(numbers) > MAX_NUMBER:",
        ("data/test_filters.py",),
    ),
    Bug(
        "training rows: the loss leaves out the last token, the end of the turn",
        "data/batching.py",
        "loss_mask[i, start:end] = 1",
        "loss_mask[i, start : end - 1] = 1",
        ("data/test_batching.py",),
    ),
)
