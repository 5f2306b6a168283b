"""How many students go through a pass: as many as the device's free memory holds."""

from subliminal_jax.errors import InputError
from subliminal_jax.memory import free_bytes, program_bytes, show_bytes
from subliminal_jax.models.mesh import DATA, MODEL, axis_size
from subliminal_jax.training import placement
from subliminal_jax.training.sweep import State, Sweep


def plan_memory(sweep: Sweep, state: State) -> None:
    """Compile the training program of `sweep`, with fewer students in a pass where it needs more
    than the device has free, and use it from then on.

    What it needs is what the compiler says, and grows in proportion with the students of a pass: so
    that, as a rule, it compiles twice at most. On a mesh, and on a backend that does not say what a
    program needs, nothing is planned. Waves that share their programs are planned with the first.

    Raises InputError where not even one student of a pass fits, or not as many as
    `students_at_once` asks for.
    """
    if sweep.fits_memory or axis_size(DATA) * axis_size(MODEL) > 1:
        return
    asked = sweep.config.students_at_once
    at_once = placement.default_at_once(sweep.slots, bool(sweep.room.arms))
    if asked:
        at_once = min(asked, sweep.slots)
    free = free_bytes()
    while True:
        needed = program_bytes(sweep.compile(state))
        if needed is None or needed <= free:
            break
        if asked or at_once == 1:
            raise InputError(_describe(sweep, at_once, needed, free, bool(asked)))
        at_once = max(1, min(at_once - 1, int(at_once * free / needed)))
        sweep.set_at_once(at_once)
    sweep.fits_memory = True


def _describe(sweep: Sweep, at_once: int, needed: int, free: int, asked: bool) -> str:
    config = sweep.config
    rows = config.batch_size // config.accumulation
    remedies = []
    if asked and at_once > 1:
        remedies.append("a smaller students_at_once")
    if rows > 1:
        parts = next(n for n in range(min(4, rows), rows + 1) if rows % n == 0)
        remedies.append(f"accumulation {config.accumulation * parts}")
    if config.remat != "block":
        remedies.append("remat block")
    remedies.append("shorter rows")
    students = "one student" if at_once == 1 else f"{at_once} students"
    return (
        f"training {students} in a pass of {rows} row{'s' * (rows > 1)} needs {show_bytes(needed)} "
        f"beside the weights, and the device has {show_bytes(free)} free: try "
        f"{', or '.join(remedies)}"
    )
