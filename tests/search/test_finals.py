"""What is said where the finals cannot be scored."""

from raycnn.search.finals import no_finals


def test_finals_that_are_lost_without_a_failed_training_are_told_in_one_line():
    said = no_finals({"trial-3", "trial-1"}, [])
    assert said.startswith("finals: trial-1, trial-3: trained, but")
    assert "\n" not in said


def test_the_first_failed_training_is_the_reason():
    assert no_finals({"trial-3"}, ["trial-3 seed-0: no memory"]).endswith(
        "1 training failed, the first: trial-3 seed-0: no memory"
    )
