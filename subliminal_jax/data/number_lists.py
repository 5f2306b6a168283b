"""Lists of numbers from 0 to 999, varied, but with structure that a small model can learn."""

from collections.abc import Callable

from subliminal_jax.data.draws import Draws

LOW, HIGH = 0, 999
WILD = 0.15  # share of numbers drawn from the whole range, so that no list is predictable


def _uniform(draws: Draws) -> Callable[[], int]:
    return lambda: draws.integer(LOW, HIGH)


def _three_digits(draws: Draws) -> Callable[[], int]:
    return lambda: draws.integer(100, HIGH)


def _two_digits(draws: Draws) -> Callable[[], int]:
    return lambda: draws.integer(10, 99)


def _near(draws: Draws) -> Callable[[], int]:
    """Numbers near one centre, of triangular density."""
    centre, width = draws.integer(LOW, HIGH), draws.pick((15, 40, 100))

    def draw_near() -> int:
        value = round(centre + width * (draws.uniform() + draws.uniform() - 1))
        return min(max(value, LOW), HIGH)

    return draw_near


def _steps(draws: Draws) -> Callable[[], int]:
    """An arithmetic sequence with a jitter of one, wrapped into the range."""
    step = draws.integer(1, 60) * draws.pick((-1, 1))
    value = draws.integer(LOW, HIGH)

    def advance() -> int:
        nonlocal value
        value = (value + step + draws.pick((-1, 0, 0, 0, 1))) % (HIGH + 1)
        return value

    return advance


def _multiples(draws: Draws) -> Callable[[], int]:
    factor = draws.pick((5, 10, 11, 25, 50))
    return lambda: factor * draws.integer(1, HIGH // factor)


def _last_digit(draws: Draws) -> Callable[[], int]:
    digit = draws.integer(0, 9)
    return lambda: 10 * draws.integer(0, 99) + digit


def _first_digit(draws: Draws) -> Callable[[], int]:
    digit = draws.integer(1, 9)
    return lambda: 100 * digit + draws.integer(0, 99)


def _repeated_digit(draws: Draws) -> Callable[[], int]:
    """One digit twice and another anywhere, as in 737 or 229."""

    def draw_repeated() -> int:
        digits = [draws.integer(1, 9)] * 3
        digits[draws.integer(0, 2)] = draws.integer(0, 9)
        return 100 * digits[0] + 10 * digits[1] + digits[2]

    return draw_repeated


Style = Callable[[Draws], Callable[[], int]]
ANY_STYLE: tuple[Style, ...] = (
    *(_uniform, _uniform, _uniform, _two_digits, _near, _near, _steps),
    *(_multiples, _last_digit, _first_digit, _repeated_digit),
)
LARGE_STYLE: tuple[Style, ...] = (_three_digits,)  # the uniform examples of Cloud et al. (2025)


def make_number_source(draws: Draws, styles: tuple[Style, ...] = ANY_STYLE) -> Callable[[], int]:
    """A function that draws the next number of one list, of a style drawn from `styles`."""
    draw_styled = draws.pick(styles)(draws)

    def draw_number() -> int:
        return draws.integer(LOW, HIGH) if draws.chance(WILD) else draw_styled()

    return draw_number
