"""What doctor says of a board's file: names in it that this unit does not have show nowhere else."""

from board_trees import facts

from devicelab.jobs import doctor
from devicelab.model.device import Board, Cluster


def test_a_board_file_that_fits_is_fine_and_says_what_it_found() -> None:
    (row,) = doctor._board_file(facts("exynos9825"))
    assert row.ok
    assert "zones" in row.found


def test_cpus_and_zones_that_this_unit_does_not_have_are_named() -> None:
    board = Board(
        kind="my-phone",
        title="My Phone",
        clusters=(Cluster(name="prime", cpus=(7, 9), big=True),),
        thermal_zones=("NOPE",),
    )
    (row,) = doctor._board_file(facts("exynos9825").model_copy(update={"board": board}))
    assert row.ok is None
    assert "no CPU 9 (prime)" in row.found
    assert "none of its thermal zones" in row.found
    assert "my-phone.toml" in row.todo
