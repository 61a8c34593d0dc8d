"""Words as parts of sentences."""


def capitalized(text: str) -> str:
    """Return a text with a capital letter at its beginning. `str.capitalize` would also change the rest, such as Hz."""
    return text[:1].upper() + text[1:]
