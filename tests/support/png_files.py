"""Make PNG files bit by bit, with nothing but zlib: what a file holds, whatever a library makes of it."""

import struct
import zlib


def grey_png(values, bits):
    """Return a grey PNG (colour type 0) of 1, 2, 4 or 8 bits whose samples are these rows of values."""
    lines = b""
    for row in values:
        packed = "".join(f"{value:0{bits}b}" for value in row)
        packed += "0" * (-len(packed) % 8)
        lines += b"\0" + bytes(int(packed[i : i + 8], 2) for i in range(0, len(packed), 8))
    header = struct.pack(">IIBBBBB", len(values[0]), len(values), bits, 0, 0, 0, 0)
    return _png(header, zlib.compress(lines))


def png(values, color_type):
    """Return a PNG of 16 bits whose samples are these, (H, W, C)."""
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, color_type, 0, 0, 0)
    return _png(header, zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)))


def blank_png(width, height):
    """Return a grey PNG of 1 bit, all black: 20000x20000 pixels take 50 kB."""
    packer = zlib.compressobj(1)
    line = bytes(1 + -(-width // 8))
    lines = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    return _png(struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0), lines)


def _png(header, lines):
    chunks = ((b"IHDR", header), (b"IDAT", lines), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
