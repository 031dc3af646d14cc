"""Make short videos, and read their frames and times back, with PyAV alone."""

from fractions import Fraction

import numpy as np


def write_clip(path, times, *, size=(48, 64), base=Fraction(1, 90000), codec="libx264", aspect=None):
    """Write a video of frames at these times, in units of ``base``, each of its own brightness, with a white corner."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.time_base = stream.codec_context.time_base = base
        if codec == "png":
            stream.pix_fmt = "rgb24"
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for number, time in enumerate(times):
            image = np.full((*size, 3), number * 7 % 200, np.uint8)
            image[: size[0] // 3, : size[1] // 3] = 255  # upper left
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read_clip(path):
    """Return the times in seconds, and the frames: (H, W, 3) uint8 RGB, or (H, W) for grey videos."""
    import av

    times, images = [], []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            times.append(frame.pts * stream.time_base)
            images.append(frame.to_ndarray(format="gray" if frame.format.name == "gray" else "rgb24"))
    return times, images


def set_matrix(path, matrix):
    """Set a, b, c and d of the matrix in an MP4's track header, which says how its frames are shown.

    ISO/IEC 14496-12: a point (p, q) is shown at (a p + c q + x, b p + d q + y); the matrix is a b u, c d v, x y w.
    """
    content = bytearray(path.read_bytes())
    header = content.index(b"tkhd")
    a, b, c, d = ((number << 16) % (1 << 32) for number in matrix)
    numbers = [(1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30), (a, b, 0, c, d, 0, 0, 0, 1 << 30)]
    identity, wanted = (b"".join(number.to_bytes(4, "big") for number in each) for each in numbers)
    place = content.index(identity, header)
    content[place : place + len(identity)] = wanted
    path.write_bytes(content)
    return path
