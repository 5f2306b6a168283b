"""The list of planted bugs fits the code of today; that tests catch them is `make mutate`."""

import ast
from pathlib import Path

import pytest

import subliminal_jax
from tests.bugs.__main__ import plant
from tests.bugs.bugs import BUGS

PACKAGE = Path(subliminal_jax.__file__).parent


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_each_bug_changes_its_file_once_and_has_tests(bug):
    code = (PACKAGE / bug.file).read_text()
    planted = plant(bug, code)
    assert ast.dump(ast.parse(planted)) != ast.dump(ast.parse(code))
    for name in bug.tests:
        assert (Path(__file__).parent / name).exists(), f"there is no tests/{name}"


def test_a_bug_whose_code_is_gone_is_refused():
    with pytest.raises(ValueError, match="0 times"):
        plant(BUGS[0], "mask = None")
