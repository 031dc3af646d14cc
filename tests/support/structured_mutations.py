"""Change files in ways that their formats allow: values of JSON and XML, chunks of PNG, members of archives.

Lengths and checksums are made right again, so that the change is met behind them.
"""

import io
import json
import re
import struct
import tarfile
import warnings
import zipfile
import zlib
from xml.etree import ElementTree

import numpy as np
from mutations import BYTES, ODD_NUMBERS, ODD_TEXTS, TEXT
from PIL import Image

_DEEP = 3000
ODD_VALUES = (
    None, True, False, *ODD_NUMBERS, 10**400, float("nan"), float("inf"), float("-inf"), *ODD_TEXTS, "\ud800", [], [[]],
    {}, {"a": 1}, [0] * 5000, [1e308, -1e308], ["a", None], [[None, "x"]], "deep",
)  # fmt: skip


def json_value(content, random, _):
    """Replace, remove or repeat a value of a JSON document."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return content
    places = list(_places(document))
    if not places:
        return content
    parent, key = places[int(random.integers(len(places)))]
    match int(random.integers(8)):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, list):
            parent.insert(key, parent[key])
        case 2 if isinstance(parent, dict):
            parent[str(ODD_TEXTS[int(random.integers(len(ODD_TEXTS)))])] = parent.pop(key)
        case 3:
            other_parent, other_key = places[int(random.integers(len(places)))]
            parent[key] = json.loads(json.dumps(other_parent[other_key]))
        case _:
            parent[key] = ODD_VALUES[int(random.integers(len(ODD_VALUES)))]
    return _dump(document)


def json_duplicate_key(content, random, _):
    """Write a key of a JSON document again, with an odd value."""
    keys = list(re.finditer(rb'"(\w+)": ?', content[:50_000]))
    if not keys:
        return content
    match = keys[int(random.integers(len(keys)))]
    value = _dump(ODD_VALUES[int(random.integers(len(ODD_VALUES)))])
    return content[: match.start()] + match.group() + value + b", " + content[match.start() :]


def json_lines(content, random, others):
    """Change a value in one line of JSON lines."""
    lines = content.split(b"\n")
    at = int(random.integers(len(lines)))
    lines[at] = json_value(lines[at], random, others)
    return b"\n".join(lines)


def xml_value(content, random, _):
    """Change an attribute, a text or an element of an XML document."""
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError):
        return content
    elements = list(root.iter())
    element, other = (elements[int(place)] for place in random.integers(len(elements), size=2))
    odd = odd_text(random)
    match int(random.integers(7)):
        case 0:
            element.text = odd
        case 1:
            element.tag = str(random.choice([each.tag for each in elements]))
        case 2 if len(element):
            element.append(element[int(random.integers(len(element)))])
        case 3 if len(element):
            element.remove(element[int(random.integers(len(element)))])
        case 4:
            element.attrib |= other.attrib
        case _ if element.attrib:
            key = sorted(element.attrib)[int(random.integers(len(element.attrib)))]
            if random.random() < 0.2:
                del element.attrib[key]
            else:
                element.attrib[key] = odd
    return ElementTree.tostring(root, "utf-8")


def xml_entities(content, random, _):
    """Declare entities: of another file, of many times their length, without an end."""
    texts = ['SYSTEM "file:///etc/passwd"', '"' + "x" * 1000 + '"', '"&b;&b;"']
    bomb = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    doctype = f'<!DOCTYPE annotations [<!ENTITY l0 "lol">{bomb}<!ENTITY a {texts[int(random.integers(3))]}>]>'
    used = str(random.choice(["&a;", "&l11;", "&missing;"])).encode()
    begin = content.find(b"<annotations")
    return doctype.encode() + re.sub(rb">\s*<", b">" + used + b"<", content[max(begin, 0) :], count=3)


def png_chunk(content, random, _):
    """Change the content of a PNG's chunk, most often of its header, with the right checksum."""
    chunks = _png_chunks(content)
    if not chunks:
        return content
    at = 0 if random.random() < 0.5 else int(random.integers(len(chunks)))
    kind, data = chunks[at]
    if kind == b"IHDR" and len(data) == 13:
        fields = list(struct.unpack(">IIBBBBB", data))
        field = int(random.integers(7))
        fields[field] = int(random.choice([0, 1, 2, 3, 4, 6, 7, 8, 16, 100, 255, *([30_000, 2**31 - 1] * (field < 2))]))
        data = struct.pack(">IIBBBBB", *fields)
    elif kind == b"IDAT" and random.random() < 0.5:
        data = zlib.compress(bytes(int(2 ** random.uniform(0, 22))))
    else:
        data = BYTES[int(random.integers(8))](data, random, [])
    if random.random() < 0.2:
        kind = str(random.choice(["tRNS", "PLTE", "eXIf", "iCCP", "zTXt", "acTL", "IDAT"])).encode()
    chunks[at] = kind, data
    if random.random() < 0.2:
        chunks.insert(int(random.integers(len(chunks))), chunks[int(random.integers(len(chunks)))])
    return content[:8] + b"".join(map(_png_bytes, chunks))


def png_depth(content, random, _):
    """Write an image again: in grey or colours of another depth, or with another order of its palette."""
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except Exception:  # what an earlier mutation has left
        return content
    if image.width * image.height > 10_000:
        return content
    buffer, options = io.BytesIO(), {}
    match int(random.integers(5)):
        case 0 if image.mode == "P":
            image = image.remap_palette(random.permutation(256).tolist())
        case 1 if image.mode == "P":
            image.putpalette(random.bytes(768))
        case 2:
            image, options = image.convert("L").quantize(4), {"bits": int(random.choice([2, 4, 8]))}
        case 3:
            image = image.convert(str(random.choice(["1", "L", "LA", "RGB", "RGBA"])))
        case _:
            image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * int(random.choice([1, 257])))
    image.save(buffer, "png", **options)
    return buffer.getvalue()


def json_kind(content, random, _):
    """Write a number of a JSON document as a text or with a fraction, or make it another; put names into folders."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return content
    kinds = int | float | str
    places = [(parent, key) for parent, key in _places(document) if isinstance(parent[key], kinds)]
    if not places:
        return content
    parent, key = places[int(random.integers(len(places)))]
    other, other_key = places[int(random.integers(len(places)))]
    value = parent[key]
    if isinstance(value, str):
        folders = ("left/", "..\\images\\right\\", "./", "/", "C:\\set\\", "._", "e\u0301/", "\u00e9/", "")
        changed = folders[int(random.integers(len(folders)))] + (value, str(other[other_key]))[int(random.integers(2))]
    else:
        changed = (str(value), float(value), value + 0.5, bool(value), other[other_key])[int(random.integers(5))]
    parent[key] = changed
    return _dump(document)


def zip_member(content, random, others):
    """Change the content of a zip archive's member, by its kind, with the right checksum."""
    members = _zip_members(content)
    if not members:
        return content
    at = int(random.integers(len(members)))
    name, data = members[at]
    mutators = JSON if name.endswith(".json") else NPY if name.endswith(".npy") else BYTES
    members[at] = name, mutators[int(random.integers(len(mutators)))](data, random, others or [b""])
    return _zip_bytes(members, random)


def zip_members(content, random, _):
    """Remove, repeat or rename a zip archive's member."""
    members = _zip_members(content)
    if not members:
        return content
    at = int(random.integers(len(members)))
    match int(random.integers(3)):
        case 0:
            del members[at]
        case 1:
            members.append((members[at][0], members[int(random.integers(len(members)))][1]))
        case _:
            members[at] = odd_text(random)[:1000] or "x", members[at][1]
    return _zip_bytes(members, random)


def npy_header(content, random, _):
    """Change the header of a .npy: its type, its order, its shape."""
    changes = (
        (rb"'descr': '[^']*'", [b"'descr': '|O'", b"'descr': '<f8'", b"'descr': '|V0'", b"'descr': '<U1000000000'"]),
        (rb"'shape': \([^)]*\)", [b"'shape': ()", b"'shape': (10000000000,)", b"'shape': (-1,)", b"'shape': (2, 0)"]),
        (rb"'fortran_order': False", [b"'fortran_order': True", b"'fortran_order': 7"]),
        (rb"'descr'", [b"'other'", b"__import__('os')"]),
    )
    pattern, texts = changes[int(random.integers(len(changes)))]
    header = re.sub(pattern, texts[int(random.integers(len(texts)))], content[10:118]).rstrip(b"\n ")
    return content[:10] + header.ljust(len(content[10:118]) - 1)[: len(content[10:118]) - 1] + b"\n" + content[118:]


def tar_members(content, random, others):
    """Rename a tar archive's member, make a link of it, or change its content or size."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            files = [(info, tar.extractfile(info)) for info in tar]
            members = [(info, file.read() if file else b"") for info, file in files]
    except (tarfile.TarError, EOFError, OSError, zlib.error):
        return content
    if not members:
        return content
    info, data = members[int(random.integers(len(members)))]
    folder, _, name = info.name.rpartition("/")
    match int(random.integers(6)):
        case 0:
            info.name = f"{folder}/{odd_text(random)[:500]}{name}".replace("\0", "0")
        case 1:
            info.name = str(random.choice(["/tmp/", "../../outside/", "a/../../"])) + name
        case 2:
            info.type = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)[int(random.integers(4))]
            info.linkname, data = "../../outside/secret.png", b""
        case 3:
            members.append((info, data))
        case _:
            data = BYTES[int(random.integers(len(BYTES)))](data, random, others or [b""])
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for each, original in members:
            written = data if each is info else original
            each.size = len(written)
            tar.addfile(each, io.BytesIO(written))
    return buffer.getvalue()


def odd_text(random):
    """Return an odd text, or an odd number as text."""
    choices = [*ODD_TEXTS, *map(str, ODD_NUMBERS), "nan", "inf", "1e999"]
    return choices[int(random.integers(len(choices)))]


def _dump(document):
    """Return JSON, with deep brackets where the text "deep" stands."""
    return json.dumps(document).replace('"deep"', "[" * _DEEP + "]" * _DEEP).encode()


def _places(document):
    """Yield (parent, key) of every value; of the long lists only a part."""
    if isinstance(document, dict | list):
        keys = list(document) if isinstance(document, dict) else range(min(len(document), 20))
        for key in keys:
            yield document, key
            yield from _places(document[key])


def _png_chunks(content):
    chunks, at = [], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def _png_bytes(chunk):
    kind, data = chunk
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _zip_members(content):
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:  # what an earlier mutation has left
        return []


def _zip_bytes(members, random):
    buffer = io.BytesIO()
    kind = zipfile.ZIP_STORED if random.random() < 0.7 else zipfile.ZIP_DEFLATED
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


JSON = (json_value, json_value, json_value, json_kind, json_kind, json_duplicate_key, *TEXT)
JSON_LINES = (json_lines, json_lines, *TEXT)
XML = (xml_value, xml_value, xml_value, xml_entities, *TEXT)
IMAGE = (png_chunk, png_chunk, png_chunk, png_depth, png_depth, *BYTES)
NPY = (npy_header, npy_header, *BYTES)
ZIP = (zip_member, zip_member, zip_member, zip_members, *BYTES)
TAR = (tar_members, tar_members, tar_members, *BYTES)
