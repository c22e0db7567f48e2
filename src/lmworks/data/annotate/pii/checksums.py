"""Check digits: the arithmetic by which a number shows that it is not any number."""

from collections.abc import Iterable

_DOUBLED = str.maketrans("0123456789", "0246813579")  # 7 → 14 → 1 + 4
_VERHOEFF = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: every second digit from the right is doubled, and the digits of all add up to tens."""
    return (sum(map(int, digits[::-2])) + sum(map(int, digits[-2::-2].translate(_DOUBLED)))) % 10 == 0


def weighted_sum(digits: str, weights: Iterable[int]) -> int:
    """The sum of as many products as there are weights."""
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def modulo_11_10(digits: str) -> bool:
    """ISO/IEC 7064, MOD 11,10 (section 8)."""
    product = 10
    for digit in digits[:-1]:
        product = 2 * ((int(digit) + product) % 10 or 10) % 11
    return (11 - product) % 10 == int(digits[-1])


def modulo_11_2(text: str) -> bool:
    """ISO/IEC 7064, MOD 11-2 (section 7): digits, the last of which may be X for 10."""
    total = 0
    for character in text:
        total = (2 * total + (10 if character in "Xx" else int(character))) % 11
    return total == 1


def verhoeff(digits: str) -> bool:
    """Verhoeff 1969, "Error Detecting Decimal Codes": products in the dihedral group of ten elements."""
    total = 0
    for place, character in enumerate(reversed(digits)):
        digit = int(character)
        for _ in range(place % 8):
            digit = _VERHOEFF[digit]
        total = _dihedral_product(total, digit)
    return total == 0


def _dihedral_product(first: int, second: int) -> int:
    """In the numbering of Verhoeff: 0 to 4 are rotations, 5 to 9 reflections."""
    if first < 5:
        return (first + second) % 5 + (5 if second >= 5 else 0)
    return (first - second) % 5 + (5 if second < 5 else 0)
