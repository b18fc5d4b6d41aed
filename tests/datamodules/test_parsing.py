import pytest
import yaml

from datamodules.parsing import load_yaml

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 12))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "more than 16 references"),
        ("a: " + "[" * 20000, "more than 40 levels"),
        ("- " * 500 + "a", "more than 40 levels"),
        ("a: b\n" * 300_000, "longer than 1 MiB"),
    ],
)
def test_what_no_honest_file_holds_is_refused_before_it_is_built(text: str, reason: str) -> None:
    for given in (text, text.encode()):
        with pytest.raises(ValueError, match=reason):
            load_yaml(given)


def test_all_else_is_read_as_ever() -> None:
    text = "base: &base {a: 1}\nboth: [*base, *base]\ntext: '" + "[" * 30 + "'\n"
    assert load_yaml(text) == yaml.safe_load(text)
    with pytest.raises(yaml.YAMLError):
        load_yaml("a: [1")
