"""How many students go through a pass, under pretended limits of the memory."""

import pytest

from subliminal_jax.compilation import count_compilations
from subliminal_jax.errors import InputError
from subliminal_jax.memory import program_bytes
from subliminal_jax.training import memory_plan, placement
from subliminal_jax.training.adapters import LoRA
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.loop import run_sweep
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.sweep import Sweep
from tests.training.tiny import CFG, base, close, rows

STUDENTS = 8


def make_sweep(at_once=None, **plan):
    adapter = LoRA(rank=2, targets=("q", "up"))
    config = TrainConfig(
        steps=4, batch_size=8, adapter=adapter, log_every=2, students_at_once=at_once, **plan
    )
    arms = [Arm(OptimizerSpec("adamw"), 1e-2, seed, "x") for seed in range(STUDENTS)]
    return Sweep(base(), CFG, arms, {"x": rows(16)}, config)


def needs(at_once, **plan):
    sweep = make_sweep(at_once, **plan)
    return program_bytes(sweep.compile(sweep.init()))


@pytest.fixture(scope="module")
def needed():
    return {n: needs(n) for n in (1, 2, STUDENTS)}


@pytest.fixture
def limit(monkeypatch):
    """Sets the free bytes of the device, and lets all students share a pass as elsewhere than on a
    CPU."""

    def set_limit(free: int) -> None:
        monkeypatch.setattr(memory_plan, "free_bytes", lambda: free)
        monkeypatch.setattr(placement, "default_at_once", lambda students, some_idle: students)

    return set_limit


def passes(sweep) -> int | None:
    return sweep._map.keywords["at_once"]


def test_a_pass_of_more_students_needs_more(needed):
    assert needed[1] < needed[2] < needed[STUDENTS]


def test_where_all_fit_the_first_program_is_used(limit, needed):
    limit(10 * needed[STUDENTS])
    sweep = make_sweep()
    with count_compilations() as compiled:
        run_sweep(sweep)
    assert compiled.count("_advance_fn") == 1


def test_fewer_go_through_a_pass_where_not_all_fit_and_learn_the_same(limit, needed):
    expected = make_sweep(1)
    trees = expected.students(run_sweep(expected))
    limit(needed[STUDENTS] - 1)
    sweep = make_sweep()
    state = sweep.init()
    memory_plan.plan_memory(sweep, state)
    assert 1 <= passes(sweep) < STUDENTS
    assert program_bytes(sweep.compile(state)) <= memory_plan.free_bytes()
    end = run_sweep(sweep)
    close(sweep.students(end), trees, 1e-5)


def test_where_not_one_fits_one_line_says_what_to_try(limit, needed):
    limit(needed[1] - 1)
    with pytest.raises(InputError) as error:
        run_sweep(make_sweep())
    message = str(error.value)
    assert "training one student in a pass of 8 rows needs" in message
    assert "try accumulation 4, or remat block, or shorter rows" in message
    assert "\n" not in message


def test_what_it_advises_needs_less(needed):
    assert needs(1, accumulation=4) < needed[1]
    assert needs(1, remat="block") <= needed[1]


def test_so_many_as_are_asked_for_are_not_made_fewer(limit, needed):
    limit(needed[2])
    with pytest.raises(InputError, match=r"8 students in a pass .* a smaller students_at_once"):
        run_sweep(make_sweep(STUDENTS))


def test_waves_of_the_same_programs_are_planned_once(limit, needed):
    limit(10 * needed[STUDENTS])
    sweep = make_sweep()
    run_sweep(sweep)
    with count_compilations() as compiled:
        run_sweep(sweep.replace_arms(sweep.arms[::-1]))
    assert compiled.count("_advance_fn") == 0
