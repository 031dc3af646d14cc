"""Change files in ways that readers do not expect: their bytes and their lines.

A mutator takes the content, a random generator and the contents of other files, and returns a changed content.
`structured_mutations` has those that know a format.
"""

import re

# Places of a sandbox (see fuzz_case.py) to which an odd path may lead.
OUTSIDE = "../../outside/secret.png"
CONTROL = "\x1b[31m\x07\x00\r\x85\u2028"

ODD_NUMBERS = (
    0, -1, 1, 2, 255, 256, 65536, 2**31 - 1, 2**31, -(2**31), 2**32, 2**63, 10**30, -0.5, 1.5, 1e-320, 1e308, -1e308,
)  # fmt: skip
ODD_TEXTS = (
    "", " ", "x" * 300, "x" * 20_000, CONTROL, "a\nb", "\ufeff", "é\u0301ß☃\U0001f600",
    OUTSIDE, "/etc/passwd", "/dev/zero", "..", ".", "/", "//srv/x/a.png", "C:\\x\\a.png", "~/a", "*", "%s{0}$(id)",
    "<b>&amp;", "#1 ship", "nan", "0", "-1",
    "void", "background", "background", "a/b", "a,b", "'", '"',
)  # fmt: skip


def flip_bits(content, random, _):
    """Flip a few bits anywhere."""
    changed = bytearray(content or b"\0")
    for at in random.integers(len(changed), size=int(random.integers(1, 9))):
        changed[at] ^= 1 << int(random.integers(8))
    return bytes(changed)


def change_head(content, random, _):
    """Set bytes near the beginning, where most formats say what they are and how large."""
    changed = bytearray(content or b"\0")
    for at in random.integers(min(len(changed), 80), size=int(random.integers(1, 5))):
        changed[at] = int(random.choice([0, 1, 0x7F, 0x80, 0xFF, int(random.integers(256))]))
    return bytes(changed)


def set_number(content, random, _):
    """Overwrite two, four or eight bytes with the smallest or the largest of numbers."""
    width = int(random.choice([2, 4, 8]))
    number = (0, 1, (1 << 8 * width) - 1, 1 << 8 * width - 2)[int(random.integers(4))]
    at = int(random.integers(max(len(content) - width, 1)))
    return content[:at] + number.to_bytes(width, str(random.choice(["big", "little"]))) + content[at + width :]


def cut_off(content, random, _):
    """Leave out the end."""
    return content[: int(random.integers(len(content) + 1))]


def cut_out(content, random, _):
    """Leave out a piece."""
    start, end = _piece(content, random)
    return content[:start] + content[end:]


def repeat_piece(content, random, _):
    """Write a piece twice, or many times."""
    start, end = _piece(content, random)
    return content[:end] + content[start:end] * int(random.choice([1, 1, 3, 50])) + content[end:]


def swap_pieces(content, random, _):
    """Exchange two pieces."""
    a, b, c, d = sorted(int(place) for place in random.integers(len(content) + 1, size=4))
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def insert_bytes(content, random, _):
    """Insert random bytes, or bytes that are no text."""
    inserted = (random.bytes(int(random.integers(1, 20))), b"\xff\xfe\x00", b"\x80\x81", b"\xed\xa0\x80", b"\0" * 4096)
    at = int(random.integers(len(content) + 1))
    return content[:at] + inserted[int(random.integers(len(inserted)))] + content[at:]


def splice(content, random, others):
    """Continue with the end of another file."""
    other = others[int(random.integers(len(others)))]
    return content[: int(random.integers(len(content) + 1))] + other[int(random.integers(len(other) + 1)) :]


def replace_content(content, random, others):
    """Take another file's content, or none."""
    choices = [*others, b"", b"\0", b"\n", b"<!DOCTYPE html><html>", b"\xff\xfea\0b\0"]
    return choices[int(random.integers(len(choices)))]


def replace_token(content, random, _):
    """Replace a word, a number or a quoted text by an odd one, as it is or in quotes."""
    tokens = list(re.finditer(rb'"[^"\n]{0,80}"|-?[\d.]+(?:[eE][+-]?\d+)?|\w+', content[:50_000]))
    if not tokens:
        return content
    match = tokens[int(random.integers(len(tokens)))]
    return content[: match.start()] + odd_token(random) + content[match.end() :]


def insert_token(content, random, _):
    """Insert an odd word, number or text at the end of a word."""
    places = [match.end() for match in re.finditer(rb"\w+\b", content[:50_000])] or [0]
    at = places[int(random.integers(len(places)))]
    return content[:at] + odd_token(random) + content[at:]


def change_lines(content, random, _):
    """Drop, repeat or exchange lines, or change how they end."""
    lines = content.split(b"\n")
    one, two = (int(place) for place in random.integers(len(lines), size=2))
    match int(random.integers(5)):
        case 0:
            del lines[one]
        case 1:
            lines.insert(two, lines[one])
        case 2:
            lines[one], lines[two] = lines[two], lines[one]
        case 3:
            return content.replace(b"\n", (b"\r", b"\r\n", b" ", b"\x0c", b"\xc2\x85")[int(random.integers(5))])
        case _:
            lines[one] = lines[one] * int(random.choice([2, 40, 1000]))
    return b"\n".join(lines)


def change_encoding(content, random, _):
    """Write a text in another encoding."""
    text = content.decode("latin1")
    return text.encode(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp037")[int(random.integers(5))], "replace")


def odd_token(random):
    """Return an odd number or text as a file may have it, with quotes or without."""
    if random.random() < 0.5:
        choices = [*map(repr, ODD_NUMBERS), "nan", "inf", "-inf", "1e999", "null", "true", "9" * 400, "[]", "{}", "-"]
        return choices[int(random.integers(len(choices)))].encode()
    text = ODD_TEXTS[int(random.integers(len(ODD_TEXTS)))].encode()
    return text if random.random() < 0.3 else b'"' + text + b'"'


def _piece(content, random):
    """Return where a piece begins and ends; short ones are as likely as long ones."""
    start = int(random.integers(len(content) + 1))
    return start, min(start + int(2 ** random.uniform(0, 12)), len(content))


BYTES = (
    flip_bits, change_head, set_number, cut_off, cut_out, repeat_piece, swap_pieces, insert_bytes, splice,
    replace_content,
)  # fmt: skip
TEXT = (
    replace_token,
    insert_token,
    change_lines,
    cut_off,
    cut_out,
    repeat_piece,
    insert_bytes,
    splice,
    change_encoding,
)
