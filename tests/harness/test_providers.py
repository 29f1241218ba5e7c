"""Both providers keep one contract: bounds are inclusive and reached, weights and chances mean what they say, a seed says it all."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies
from hypothesis import seed as seeded

from conformance.generate.providers import FromHypothesis, Provider, Stream

#: what a test draws, many times over
Draw = Callable[[Provider], Any]

COUNT = 400


def from_stream(draw: Draw, seed: int) -> list[Any]:
    provider = Stream(seed)
    return [draw(provider) for _ in range(COUNT)]


def from_hypothesis(draw: Draw, seed: int) -> list[Any]:
    found: list[Any] = []

    @seeded(seed)
    @settings(max_examples=40, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(strategies.data())
    def collect(data: Any) -> None:
        provider = FromHypothesis(data)
        found.extend(draw(provider) for _ in range(COUNT // 40))

    collect()
    return found


PROVIDERS = {"stream": from_stream, "hypothesis": from_hypothesis}


@pytest.fixture(params=PROVIDERS)
def drawn(request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    """``drawn(draw, seed=0)``: what a provider gives when it is asked many times."""
    many = PROVIDERS[request.param]
    return lambda draw, seed=0: many(draw, seed)


@pytest.mark.parametrize(("low", "high"), [(0, 3), (-2, 2), (5, 5), (-9, -7)])
def test_an_integer_lies_within_its_bounds_and_reaches_all_of_them(drawn: Callable[..., list[Any]], low: int, high: int) -> None:
    assert set(drawn(lambda p: p.draw_integer(low, high))) == set(range(low, high + 1))


def test_a_wide_integer_stays_within_its_bounds(drawn: Callable[..., list[Any]]) -> None:
    assert all(-(10**12) <= n <= 10**12 for n in drawn(lambda p: p.draw_integer(-(10**12), 10**12)))


def test_a_choice_is_one_of_the_options_and_each_is_reached(drawn: Callable[..., list[Any]]) -> None:
    assert set(drawn(lambda p: p.draw_choice(("a", None, 2.5)))) == {"a", None, 2.5}


def test_a_choice_among_one_is_that_one(drawn: Callable[..., list[Any]]) -> None:
    assert set(drawn(lambda p: p.draw_choice(["only"]))) == {"only"}


@pytest.mark.parametrize(("percent", "answers"), [(0, {False}), (100, {True}), (50, {False, True}), (12, {False, True})])
def test_a_chance_of_nothing_never_happens_and_a_chance_of_all_always(
    drawn: Callable[..., list[Any]], percent: int, answers: set[bool]
) -> None:
    assert set(drawn(lambda p: p.draw_chance(percent))) == answers


def test_an_option_without_weight_is_never_drawn_and_every_other_is(drawn: Callable[..., list[Any]]) -> None:
    assert set(drawn(lambda p: p.draw_weighted((0, 3, 3, 7), "abcd"))) == {"b", "d"}


def test_the_last_option_is_reached_where_it_alone_has_weight(drawn: Callable[..., list[Any]]) -> None:
    assert set(drawn(lambda p: p.draw_weighted((0, 0, 1), "abc"))) == {"c"}


def test_the_same_seed_gives_the_same_draws_and_another_seed_others(drawn: Callable[..., list[Any]]) -> None:
    def draw(p: Provider) -> Any:
        return p.draw_integer(0, 99), p.draw_choice("abc"), p.draw_chance(30), p.draw_weighted((2, 9), "xy")

    assert drawn(draw, seed=3) == drawn(draw, seed=3) != drawn(draw, seed=4)


def test_a_draw_has_a_plain_type(drawn: Callable[..., list[Any]]) -> None:
    """A program holds what is drawn, and JSON takes no numpy integer."""
    assert {tuple(map(type, row)) for row in drawn(lambda p: (p.draw_integer(0, 3), p.draw_chance(40)))} == {(int, bool)}


# --- what only one of them promises -------------------------------------------------------------------------------------


def test_the_stream_draws_by_weight() -> None:
    """4,000 draws: five standard deviations of a share of 1/5 are 0.032."""
    found = [one for seed in range(10) for one in from_stream(lambda p: p.draw_weighted((1, 5), "ab"), seed)]
    assert abs(found.count("a") / len(found) - 0.2) < 0.032


def test_the_stream_happens_by_chance() -> None:
    """4,000 draws: five standard deviations of a share of 1/10 are 0.024."""
    found = [one for seed in range(10) for one in from_stream(lambda p: p.draw_chance(10), seed)]
    assert abs(sum(found) / len(found) - 0.1) < 0.024


def minimal(draw: Draw, interesting: Callable[[Any], bool] = lambda value: True) -> Any:
    """What Hypothesis shrinks an interesting draw to: that of the last call, which is the one it reports."""
    found: list[Any] = []

    @settings(max_examples=50, database=None, derandomize=True, phases=[Phase.generate, Phase.shrink])
    @given(strategies.data())
    def fails(data: Any) -> None:
        found.append(draw(FromHypothesis(data)))
        assert not interesting(found[-1])

    with pytest.raises(AssertionError):
        fails()
    return found[-1]


@pytest.mark.parametrize(
    ("draw", "simplest"),
    [
        (lambda p: p.draw_integer(2, 9), 2),
        (lambda p: p.draw_choice(("first", "second")), "first"),
        (lambda p: p.draw_chance(50), False),
        (lambda p: p.draw_weighted((3, 6), ("first", "second")), "first"),
    ],
)
def test_hypothesis_shrinks_to_the_first_option_and_the_lower_bound(draw: Draw, simplest: Any) -> None:
    assert minimal(draw) == simplest


def test_hypothesis_shrinks_to_the_first_interesting_option() -> None:
    assert minimal(lambda p: p.draw_weighted((3, 6, 9), "abc"), lambda value: value != "a") == "b"
