"""One function a kind of value: what is unambiguous is read, the rest is refused by name."""

import pytest

from datamodules.formats.values import columns, entry, flag, number, numbers, shown, side, text, whole

NO_NUMBERS = [True, None, "", "NaN", "inf", "1_0", "0x10", "1,5", "\u0661", "abc", [], {}, [1]]


@pytest.mark.parametrize(
    ("value", "read"),
    [(1, 1), (1.5, 1.5), ("1", 1), (" 1.50 ", 1.5), ("-3e2", -300), (".5", 0.5), ("+1.", 1)],
)
def test_numbers(value, read):
    assert number(value, "x") == read


@pytest.mark.parametrize("value", [*NO_NUMBERS, float("nan"), float("-inf"), "1e400", 10**400])
def test_what_is_no_number(value):
    with pytest.raises(ValueError, match=r"^x is .*, not a (finite )?number$"):
        number(value, "x")


@pytest.mark.parametrize(
    ("value", "read"),
    [(7, 7), ("7", 7), (" 007 ", 7), (7.0, 7), ("7.0", 7), (-1, -1), ("9" * 18, int("9" * 18))],
)
def test_whole_numbers(value, read):
    assert whole(value, "id") == read


@pytest.mark.parametrize("value", [*NO_NUMBERS, 1.5, "1.5", 2**63, str(2**63), 1e308])
def test_what_is_no_whole_number(value):
    with pytest.raises(ValueError, match=r"^id is "):
        whole(value, "id")


@pytest.mark.parametrize(
    "value", [0, 0.0, False, None, "", " ", "0", "0.0", "false", "FALSE", "no", "Unspecified"]
)
def test_flags_that_are_no(value):
    assert flag(value, "iscrowd") is False


@pytest.mark.parametrize("value", [1, 1.0, True, "1", " 1 ", "1.0", "true", "True", "YES"])
def test_flags_that_are_yes(value):
    assert flag(value, "iscrowd") is True


@pytest.mark.parametrize("value", [2, -1, 0.5, "2", "abc", "NaN", [], [1], {}, "1e400"])
def test_flags_that_are_neither(value):
    with pytest.raises(ValueError, match=r"^iscrowd is .*: it must be 0 or 1$"):
        flag(value, "iscrowd")


@pytest.mark.parametrize("value", [None, "", " ", 0, "0", 0.0])
def test_sides_that_are_not_known(value):
    assert side(value, "width") is None


def test_sides():
    assert side("640.0", "width") == 640
    for value in (-1, "abc", 1.5, True):
        with pytest.raises(ValueError, match="width is"):
            side(value, "width")


def test_texts():
    assert [text(value, "name") for value in (" car ", 5)] == ["car", "5"]
    for value in (None, "", " ", True, [], {}):
        with pytest.raises(ValueError, match=r"name is .*, not a text"):
            text(value, "name")


@pytest.mark.parametrize("value", [[1, 2.0], ["1", " 2 "], "1,2", "[1, 2]", "1 2", (1, 2)])
def test_lists_of_numbers(value):
    assert numbers(value, ("x", "y"), "box") == [1, 2]


@pytest.mark.parametrize("value", [None, [], [1], [1, 2, 3], "1", {"x": 1, "y": 2}, [[1, 2]], 5])
def test_what_is_no_list_of_two(value):
    with pytest.raises(ValueError, match=r"box is .*, not 2 numbers"):
        numbers(value, ("x", "y"), "box")


def test_a_number_in_a_list_is_named():
    with pytest.raises(ValueError, match="y is None, not a number"):
        numbers([1, None], ("x", "y"), "box")


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        ("1 2\t3", ["1", "2", "3"]),
        (" 1,2 , 3, \n", ["1", "2", "3"]),
        ("1,,3", ["1", "", "3"]),
        ("0 0,5 0,5", ["0 0", "5 0", "5"]),  # decimal commas: no number comes out
    ],
)
def test_columns(row, fields):
    assert columns(row) == fields


def test_entries():
    assert entry({"id": None}, "id") is None
    with pytest.raises(ValueError, match="no entry 'id'"):
        entry({}, "id")
    with pytest.raises(ValueError, match="it is 'row', not an object"):
        entry("row", "id")


def test_messages_stay_short():
    bomb = ["x"] * 9
    for _ in range(30):
        bomb = [bomb] * 9  # printed, more than there are atoms
    assert len(shown(bomb)) < 400
    assert len(shown("x" * 10**6)) < 100
