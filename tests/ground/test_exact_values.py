"""Values of a statement in its evidence: pairs that say the same in two ways, and pairs that do not."""

from kit.tables import for_each
from lmworks.ground.exact_values import missing_values

SAME = (
    ("It has 1,000 parts.", "one thousand parts"),
    ("It has 1k parts.", "1000 parts"),
    ("two hundred and fifty thousand", "250,000"),
    ("the 20th century", "the twentieth century"),
    ("1.2 million people", "1,234,567 people"),  # rounded
    ("about 300 people", "310 people"),
    ("5% of them", "a share of 0.05"),
    ("5 percent", "5 per cent"),
    ("It cost $5m.", "5 million dollars"),
    ("5-10 km", "from 5000 m to 10,000 metres"),
    ("2 GB", "2000 MB"),
    ("90 minutes", "1.5 hours"),
    ("20 °C", "68 °F"),
    ("on 3 March 2021", "2021-03-03"),
    ("on March 3, 2021", "3 Mar 2021"),
    ("in 2021", "3/3/2021"),
    ("the 1990s", "in 1995"),
    ("Then J. Müller came.", "Jörg Muller"),
    ("Then Müller came.", "Jörg Müller"),
    ("By the WHO", "World Health Organization"),
    ("By the World Health Organization", "the WHO"),
    ("An Austrian bank", "a bank in Austria"),
    ("Call foo_bar() now", "`foo_bar`"),
    ("They call it “the perfect 10”.", "the Perfect 10"),
    ("one of the first", "some"),  # idioms count nothing
)
OTHER = (
    ("300 people", "310 people", "300"),
    ("1,234,567 people", "1.2 million people", "1,234,567"),
    ("2 GB", "2 TB", "2 GB"),
    ("20 °C", "20 °F", "20 °C"),
    ("5-10 km", "5 to 12 km", "10 km"),
    ("on 3 March 2021", "in March 2021", "3 March 2021"),
    ("in 1995", "in the 1990s", "1995"),
    ("Then Smith came.", "Jones came", "Smith"),
    ("Call foo_bar() now", "foo_baz()", "foo_bar"),
    ("in the 1800s", "in 1932", "1800s"),
    ("on March 3", "2021-03-04", "March 3"),
    ("She said “never again”.", "she said: again, never", "“never again”"),
)


@for_each(("statement", "evidence"), SAME)
def test_the_same_value_is_found_however_it_is_written(statement: str, evidence: str) -> None:
    assert missing_values(statement, evidence) == ()


@for_each(("statement", "evidence", "missing"), OTHER)
def test_another_value_is_missing(statement: str, evidence: str, missing: str) -> None:
    assert missing_values(statement, evidence) == (missing,)
