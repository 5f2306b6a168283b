from tests.experiments.conftest import model

__all__ = ["model"]
