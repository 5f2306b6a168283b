"""`subliminal_jax.testing` without hypothesis. Its checks are tested where they are used:
tests/training/test_optimizers.py and tests/diagnostics."""

import importlib
import sys
from dataclasses import replace

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.testing.strategies import probes, token_batches
from tests.tiny_configs import TINY


def test_strategies_say_what_to_install(monkeypatch):
    name = "subliminal_jax.testing.strategies"
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(InputError, match="needs hypothesis.*install the extra `test`"):
        importlib.import_module(name)
    import subliminal_jax.testing

    importlib.reload(subliminal_jax.testing)  # needs none


@pytest.mark.parametrize("strategy", [token_batches, probes])
def test_rows_beyond_the_context_are_refused(strategy):
    with pytest.raises(InputError, match="time=9: give [12] to 8, the model's context"):
        strategy(replace(TINY, context=8), time=9)
