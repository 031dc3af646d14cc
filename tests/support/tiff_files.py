"""Make TIFF files tag by tag: what a file says of its samples, whatever a library makes of it."""

import struct

import numpy as np

_KINDS = {"u": 1, "i": 2, "f": 3}


def tiff(*pages, photometric=None, planar=1, bits=None, **tags):
    """Return a TIFF of one page for each array, (H, W) or (H, W, bands), without compression.

    ``tags`` are numbers of tags, as ``t274=6``, and their values, in a tuple those of each page. With ``bits=12`` the
    lowest 12 bits of each sample are packed.
    """
    content, directory_place = bytearray(b"II*\0\0\0\0\0"), 4
    for number, pixels in enumerate(pages):
        pixels = np.asarray(pixels)
        bands = pixels.shape[2] if pixels.ndim == 3 else 1
        stored = np.moveaxis(pixels, -1, 0) if planar == 2 and bands > 1 else pixels
        planes = list(stored) if planar == 2 and bands > 1 else [stored]
        blocks = [_packed(plane) if bits == 12 else np.ascontiguousarray(plane).tobytes() for plane in planes]
        offsets = []
        for block in blocks:
            offsets.append(len(content))
            content += block + bytes(len(block) % 2)
        entries = {
            256: (4, [pixels.shape[1]]), 257: (4, [pixels.shape[0]]),
            258: (3, [bits or 8 * pixels.itemsize] * bands), 259: (3, [1]),
            262: (3, [(2 if bands > 2 else 1) if photometric is None else photometric]),
            273: (4, offsets), 277: (3, [bands]), 278: (4, [pixels.shape[0]]), 279: (4, [len(each) for each in blocks]),
            284: (3, [planar]), 339: (3, [_KINDS[pixels.dtype.kind]] * bands),
        }  # fmt: skip
        for name, value in tags.items():
            value = value[number] if isinstance(value, tuple) else value
            entries[int(name[1:])] = (3, value if isinstance(value, list) else [value])
        rows = b""
        for tag, (kind, values) in sorted(entries.items()):
            data = struct.pack(f"<{len(values)}{'I' if kind == 4 else 'H'}", *values)
            if len(data) > 4:
                place = len(content)
                content += data + bytes(len(data) % 2)
                data = struct.pack("<I", place)
            rows += struct.pack("<HHI", tag, kind, len(values)) + data.ljust(4, b"\0")
        content[directory_place : directory_place + 4] = struct.pack("<I", len(content))
        content += struct.pack("<H", len(entries)) + rows
        directory_place = len(content)
        content += bytes(4)
    return bytes(content)


def _packed(plane):
    lines = []
    for row in plane:
        digits = "".join(f"{value:012b}" for value in row.tolist())
        digits += "0" * (-len(digits) % 8)
        lines.append(bytes(int(digits[place : place + 8], 2) for place in range(0, len(digits), 8)))
    return b"".join(lines)
