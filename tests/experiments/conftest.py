from pathlib import Path

import pytest

from tests import number_model


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """The folder of a model that writes number lists."""
    return number_model.write(tmp_path_factory.mktemp("models") / "numbers")
