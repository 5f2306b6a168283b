"""The evaluation as one would write it first, with torch and transformers: one example, one
multiplier, one vector and one answer at a time, whole sequences, a hook, no cache."""

import numpy as np
import torch


class Naive:
    """Counts the tokens it reads."""

    def __init__(self, model):
        self.model, self.tokens = model, 0

    def _pass(self, ids, layer, edit):
        """Logits of one sequence with `edit` (or None) on the output of a block."""
        handles = []
        if edit is not None:

            def hook(module, inputs, output):
                hidden = output[0] if isinstance(output, tuple) else output
                changed = edit(hidden)
                return (changed, *output[1:]) if isinstance(output, tuple) else changed

            handles = [self.model.model.layers[layer].register_forward_hook(hook)]
        self.tokens += len(ids)
        try:
            with torch.no_grad():
                return self.model(torch.tensor([ids], device=self.model.device)).logits[0]
        finally:
            for handle in handles:
                handle.remove()

    def answer_logit(self, prompt, answer, layer, vector, multiplier, index=None):
        """The sum of the logits of the answer's tokens, or the logit of its token `index`."""
        v = torch.tensor(np.asarray(vector) * multiplier, device=self.model.device)

        def edit(hidden):
            hidden = hidden.clone()
            hidden[:, len(prompt) - 1 :] += v
            return hidden

        logits = self._pass([*prompt, *answer], layer, None if multiplier == 0 else edit)
        picked = [float(logits[len(prompt) - 1 + i, t]) for i, t in enumerate(answer)]
        return sum(picked) if index is None else picked[index]

    def propensities(self, contrasts, layer, vectors, multipliers, kind):
        """A multiplier of 0 is read once a row, for all vectors."""
        out = np.zeros((len(contrasts.prompts), len(vectors), len(multipliers)))
        for i, (prompt, a, b) in enumerate(zip(*contrasts, strict=True)):
            index = contrasts.letter_indices[i] if kind == "letter" else None
            for j, k in np.ndindex(out.shape[1:]):
                if multipliers[k] == 0 and j > 0:
                    out[i, j, k] = out[i, 0, k]
                    continue
                one, two = (
                    self.answer_logit(prompt, answer, layer, vectors[j], multipliers[k], index)
                    for answer in (a, b)
                )
                out[i, j, k] = one - two
        return out

    def activation(self, ids, layer, index):
        """The output of a block at one token."""
        kept = []

        def keep(hidden):
            kept.append(hidden[0, index].clone())
            return hidden

        self._pass(ids, layer, keep)
        return kept[0].cpu().numpy()

    def mean_difference(self, contrasts, layer):
        rows = []
        for i, (prompt, a, b) in enumerate(zip(*contrasts, strict=True)):
            letter = len(prompt) + contrasts.letter_indices[i]
            one, two = (self.activation([*prompt, *answer], layer, letter) for answer in (a, b))
            rows.append(one.astype(float) - two)
        return np.mean(rows, axis=0)
