"""What an installed package or the repository has, and cannot import for want of a third: the third is to be installed."""

from __future__ import annotations

from vaelint.loading.placeholder import Placeholder, for_want_of, forget, needed


def test_the_package_that_is_missing_is_named_and_not_who_needs_it() -> None:
    forget()
    for_want_of("parts_of_ours.vanilla.Vanilla", "no_such_audio")
    Placeholder("parts_of_ours.vanilla.Vanilla")(3)
    error = needed()
    forget()
    assert error is not None and "the model needs the package no_such_audio" in error.message
    assert error.help == "install it: pip install no_such_audio"
