"""Lengths rounded up to few sizes, so that few programs serve all."""


def round_up_width(length: int) -> int:
    """`length` rounded up to a multiple of 8, above 32 to one of four steps per power of two."""
    step = 8 if length <= 32 else 1 << ((length - 1).bit_length() - 3)
    return max(step, -(-length // step) * step)


def round_up_to_power_of_two(length: int) -> int:
    """`length` rounded up to a power of two, at least 1."""
    return 1 << max(length - 1, 0).bit_length()
