"""The search for rates: inside its grid, on sound students, as far as it may be extended."""

import math

from subliminal_jax.evaluation.rate_search import TOLERANCE, choose_rates, is_sound, mean_losses
from subliminal_jax.evaluation.student_rows import StudentRow


def make_train(best, blown_above=math.inf):
    """Losses with a minimum at `best` by optimizer; None above a rate."""
    tried = []

    def train(number, rates):
        tried.append({name: tuple(each) for name, each in rates.items()})
        return {
            name: {
                rate: None if rate > blown_above else abs(math.log(rate / best[name]))
                for rate in each
            }
            for name, each in rates.items()
        }

    return train, tried


def test_a_search_goes_on_beyond_an_edge_until_the_best_is_inside():
    train, tried = make_train({"adamw": 1e-3, "sgd": 6.4})
    centers = {"adamw": 1e-3, "sgd": 0.1}
    adamw, sgd = choose_rates(centers, 64, train, factor=2.0, extensions=6)
    assert (adamw.grid, adamw.rate, adamw.is_inside) == ((5e-4, 1e-3, 2e-3), 1e-3, True)
    assert sgd.is_inside and sgd.rate == 6.4 and sgd.grid[-1] == 12.8
    assert tried[0].keys() == {"adamw", "sgd"} and tried[1] == {"sgd": (0.4, 0.8)}
    assert sgd.losses == tuple(abs(math.log(rate / 6.4)) for rate in sgd.grid)


def test_extensions_end_and_the_edge_is_told():
    train, tried = make_train({"sgd": 100.0})
    (sgd,) = choose_rates({"sgd": 0.1}, 64, train, factor=2.0, extensions=2)
    assert len(tried) == 3 and sgd.rate == sgd.grid[-1] and not sgd.is_inside


def test_a_rate_with_a_blown_up_student_is_out_and_counts_as_an_edge_that_was_tried():
    train, _ = make_train({"sgd": 1.0}, blown_above=0.1)
    (sgd,) = choose_rates({"sgd": 0.1}, 64, train, factor=2.0, extensions=3)
    assert sgd.rate == 0.1 and sgd.is_inside and sgd.losses[-1] is None


def test_where_no_student_is_sound_the_search_goes_down():
    train, tried = make_train({"sgd": 0.01}, blown_above=0.02)
    (sgd,) = choose_rates({"sgd": 0.4}, 64, train, factor=2.0, extensions=4)
    assert tried[1] == {"sgd": (0.05, 0.1)} and sgd.rate == 0.0125


def test_a_student_above_the_bases_loss_makes_its_rate_unsound():
    def row(data, rate, loss):
        diverged = loss is None
        return StudentRow("sgd", rate, 0, data, diverged, heldout_loss=loss)

    rows = [row("a", 0.1, 1.0), row("b", 0.1, 3.0), row("a", 0.2, 0.5), row("b", 0.2, 4.5)]
    rows += [row("a", 0.4, None), row("b", 0.4, 1.0)]
    losses = mean_losses(rows, {"a": 2.0, "b": 4.0})
    assert losses == {"sgd": {0.1: 2.0, 0.2: None, 0.4: None}}


def test_a_control_may_end_above_the_loss_of_the_base_that_wrote_its_data_but_not_blow_up():
    control = StudentRow("sgd", 0.1, 0, "control-0", False, heldout_loss=3.3)
    assert is_sound(control, {"control-0": 3.3 - 0.9 * TOLERANCE})
    assert not is_sound(control, {"control-0": 3.3 - 1.1 * TOLERANCE})
    assert not is_sound(control.replace_values(heldout_loss=None), {"control-0": 3.3})
