from datamodules.files import visible
from datamodules.formats.categories import Categories


def test_names_of_any_script_stay_and_what_steers_a_terminal_is_escaped() -> None:
    for name in ("car", "बस", "سيارة", "\U0001f469\u200d\U0001f680", "a <b>"):
        assert visible(name) == name
    assert visible("\x1b[31mred\x07") == r"\x1b[31mred\x07"
    assert visible("car\u202etxt\u2028") == r"car\u202etxt\u2028"
    assert visible(visible("\x1b")) == visible("\x1b")


def test_categories_know_such_names_by_either_form() -> None:
    categories = Categories("a.json", {1: "\x1b[31mred", 2: "b"}, class_names=["b", "\x1b[31mred"])
    assert categories.class_names == ["b", r"\x1b[31mred"]
    assert categories.label(1, "row 1") == categories.label_by_name("\x1b[31mred", "row 1") == 1
