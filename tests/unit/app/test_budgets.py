"""Caps from file and environment, rolling windows, and prices."""

from __future__ import annotations

import pytest

from budgets import Cap, Entry, read_budgets, spent_within
from prices import read_prices
from usage import Spent, Tokens

NOW = 1_795_848_850.0
HOUR, DAY = 3600, 86400


def _entry(ago: float, tokens: int = 100, nano: int = 0) -> Entry:
    return Entry(NOW - ago, NOW - ago + 60, tokens, nano)


def test_caps_come_from_the_file_and_the_environment_wins() -> None:
    given = {"daily": {"tokens": 2000, "usd": "1.50"}, "weekly": {"tokens": "10_000"}}
    env = {
        "CODEX_WORKSPACE_BUDGET_DAILY_TOKENS": "5000",
        "CODEX_WORKSPACE_BUDGET_WEEKLY_TOKENS": "off",
        "CODEX_WORKSPACE_BUDGET_MONTHLY_USD": "20",
        "CODEX_WORKSPACE_BUDGET_HOURLY_USD": " ",
    }
    budgets = read_budgets(given, env)
    assert (budgets.refusals, budgets.warnings) == ((), ())
    assert {(cap.period, cap.unit): cap.limit for cap in budgets.caps} == {
        ("daily", "tokens"): 5000,
        ("daily", "usd"): 1_500_000_000,
        ("monthly", "usd"): 20_000_000_000,
    }


@pytest.mark.parametrize("value", ["1OO", -1, "many", 1.5, True, [], {}, "nan", "inf"])
def test_a_cap_that_cannot_be_read_is_a_reason_and_not_no_cap(value: object) -> None:
    budgets = read_budgets({"daily": {"tokens": value}}, {})
    assert budgets.caps == ()
    (refusal,) = budgets.refusals
    assert "budgets.daily.tokens" in refusal
    mended = read_budgets({"daily": {"tokens": value}}, {"CODEX_WORKSPACE_BUDGET_DAILY_TOKENS": "7"})
    assert mended.refusals == ()
    assert [cap.limit for cap in mended.caps] == [7]


@pytest.mark.parametrize("value", ["-5", "1e", "ten", "5 USD"])
def test_a_variable_that_cannot_be_read_does_not_fall_back_to_the_file(value: str) -> None:
    budgets = read_budgets({"daily": {"usd": 5}}, {"CODEX_WORKSPACE_BUDGET_DAILY_USD": value})
    assert budgets.caps == ()
    assert "CODEX_WORKSPACE_BUDGET_DAILY_USD" in budgets.refusals[0]


@pytest.mark.parametrize("given", ["daily", [{"daily": 5}], 5])
def test_budgets_that_are_no_table_are_a_reason(given: object) -> None:
    assert read_budgets(given, {}).refusals
    assert read_budgets({"daily": given}, {}).refusals


def test_what_is_not_known_or_empty_is_a_warning() -> None:
    given = {"dayly": {"tokens": 1}, "daily": {"token": 1, "usd": None}, "weekly": None}
    budgets = read_budgets(given, {"CODEX_WORKSPACE_BUDGET_DAYLY_TOKENS": "5"})
    assert not budgets.caps
    assert not budgets.refusals
    text = "\n".join(budgets.warnings)
    assert "did you mean daily?" in text
    assert "did you mean tokens?" in text
    assert "did you mean CODEX_WORKSPACE_BUDGET_DAILY_TOKENS?" in text
    assert len(budgets.warnings) == 5


def test_no_budgets_close_nothing() -> None:
    assert read_budgets(None, {}).reached([_entry(5, 10**12)], NOW) is None


@pytest.mark.parametrize(
    ("period", "seconds"), [("hourly", HOUR), ("daily", DAY), ("weekly", 7 * DAY), ("monthly", 30 * DAY)]
)
def test_a_window_rolls(period: str, seconds: int) -> None:
    cap = Cap(period, "tokens", 1000)
    entries = [_entry(seconds + 61, 1), _entry(seconds - 60, 10), _entry(0, 100)]
    assert spent_within(cap, entries, NOW) == 110


def test_it_opens_again_when_enough_has_left_the_window() -> None:
    budgets = read_budgets({"daily": {"tokens": 150}}, {})
    entries = [_entry(20 * HOUR), _entry(10 * HOUR), _entry(HOUR, 20)]
    reached = budgets.reached(entries, NOW)
    assert reached is not None
    assert (reached.spent, reached.opens_at) == (220, NOW - 20 * HOUR + 60 + DAY)
    assert budgets.reached(entries, NOW + 4 * HOUR + 61) is None
    words = reached.words(NOW)
    assert "daily" in words
    assert "150 tokens" in words
    assert "220 tokens are spent" in words
    assert "UTC, in 4 h 1 min" in words


def test_the_cap_that_stays_closed_longest_is_named() -> None:
    budgets = read_budgets({"hourly": {"tokens": 10}, "weekly": {"tokens": 10}}, {})
    reached = budgets.reached([_entry(60)], NOW)
    assert reached is not None
    assert reached.cap.period == "weekly"


def test_nothing_is_reached_below_the_cap_and_something_at_it() -> None:
    budgets = read_budgets({"hourly": {"usd": "0.01"}}, {})
    assert budgets.reached([_entry(60, nano=9_999_999)], NOW) is None
    assert budgets.reached([_entry(60, nano=10_000_000)], NOW) is not None


@pytest.mark.parametrize("unit", ["tokens", "usd"])
def test_a_cap_of_0_blocks_everything_for_ever(unit: str) -> None:
    budgets = read_budgets({"monthly": {unit: 0}}, {})
    reached = budgets.reached([], NOW)
    assert reached is not None
    assert reached.opens_at is None
    assert "never opens" in reached.words(NOW)
    assert not budgets.in_money


def test_prices_count_cached_input_for_what_it_costs() -> None:
    table = read_prices({"m": {"input": 2, "cached_input": "0.5", "output": 10, "as_of": "2026-08-14"}})
    price = table.of("M")
    assert table.problems == ()
    assert price is not None
    assert price.as_of == "2026-08-14"
    assert price.nano_usd(Tokens(100, 40, 10, 3)) == 60 * 2000 + 40 * 500 + 10 * 10_000
    assert price.nano_usd(Tokens()) == 0


def test_cached_input_without_a_price_of_its_own_costs_as_much_as_other() -> None:
    price = read_prices({"m": {"input": 2, "output": 10}}).of("m")
    assert price is not None
    assert price.nano_usd(Tokens(100, 40, 0, 0)) == 200_000


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("cheap", "not a table"),
        ({"m": 3}, "not keys"),
        ({"m": {"input": 2}}, "both input and output"),
        ({"m": {"input": "two", "output": 3}}, "not USD"),
        ({"m": {"input": -1, "output": 3}}, "not USD"),
        ({"m": {"input": True, "output": 3}}, "not USD"),
    ],
)
def test_a_price_that_cannot_be_read_is_told_and_never_guessed(given: object, said: str) -> None:
    table = read_prices(given)
    assert table.of("m") is None
    assert said in table.problems[0]


def test_an_odd_key_or_date_is_told_and_the_price_counts() -> None:
    table = read_prices({"m": {"input": 1, "ouput": 9, "output": 2, "as_of": "last week"}, "n": None})
    assert table.of("m") is not None
    assert "did you mean output?" in table.problems[0]
    assert "as_of" in table.problems[1]


def test_the_cost_of_a_sum_is_known_only_if_all_of_it_is() -> None:
    known, unknown = Spent(Tokens(1, 0, 1, 0), "m", 5), Spent(Tokens(1, 0, 1, 0), "n", None)
    assert (known + known).nano_usd == 10
    assert (known + unknown).nano_usd is None
    assert "cost_usd" not in (known + unknown).as_metadata()
