import pytest

from tests import number_model


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return number_model.load(tmp_path_factory.mktemp("model"))
