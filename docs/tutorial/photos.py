"""Draw forty photos of a dish seen through a microscope, each with the outlines that labelme would save beside it.

    python photos.py FOLDER [NUMBER OF PHOTOS] [SEED]

Round cells and rods lie on an uneven ground; the light differs from photo to photo, and dust is on the lens.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT = 640, 480


def outline(rng, kind, x, y):
    """Return the corners of a cell or a rod around (x, y): (N, 2) pixels."""
    angle = rng.uniform(0, 2 * np.pi)
    turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    if kind == "cell":
        long, short = rng.uniform(24, 38), rng.uniform(20, 30)
        bumps = 1 + 0.05 * np.cos(3 * turns + rng.uniform(0, 6))
        points = np.stack([long * bumps * np.cos(turns), short * bumps * np.sin(turns)], 1)
    else:
        length, radius = rng.uniform(24, 44), rng.uniform(7, 11)
        points = radius * np.stack([np.cos(turns), np.sin(turns)], 1)
        points[:, 0] += np.where(np.cos(turns) > 0, length, -length)
        points[:, 1] += 0.004 * points[:, 0] ** 2 * rng.uniform(-1, 1)  # a little bent
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return points @ turn + (x, y)


def photo(rng):
    """Return an image, and its objects as [(class, corners)]."""
    coarse = Image.fromarray(rng.integers(95, 160, (6, 8)).astype(np.uint8))
    ground = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), float)[..., None] * (0.8, 0.78, 0.7) + 70
    image = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    objects, places = [], []
    for _ in range(200):
        x, y = rng.uniform(-5, WIDTH + 5), rng.uniform(-5, HEIGHT + 5)
        if len(objects) < 14 and all(np.hypot(x - a, y - b) > 84 for a, b in places):
            places.append((x, y))
            kind = "cell" if rng.random() < 0.5 else "rod"
            corners = outline(rng, kind, x, y)
            objects.append((kind, np.clip(corners, 0, (WIDTH - 1, HEIGHT - 1))))
            tint = rng.integers(-18, 18, 3) + ((150, 105, 160) if kind == "cell" else (95, 135, 105))
            draw.polygon([tuple(corner) for corner in corners], fill=tuple(tint), outline=tuple(tint - 45), width=2)
            if kind == "cell":  # its nucleus
                near, size = (x, y) + rng.uniform(-6, 6, 2), rng.uniform(7, 11)
                draw.ellipse([*(near - size), *(near + size)], fill=tuple(tint - 60))
    for _ in range(12):  # dust
        x, y, size = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), rng.uniform(2, 5)
        draw.ellipse([x - size, y - size, x + size, y + size], fill=(70, 66, 60))
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(0.8, 1.6))), float)
    pixels = pixels * rng.uniform(0.7, 1.15) + rng.normal(0, 6, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), objects


def main(folder, photos=40, seed=0):
    """Write the photos and their outlines."""
    if folder.exists():
        sys.exit(f"{folder}: expected a new folder, got one that exists; remove it, or name another")
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(photos):
        image, objects = photo(rng)
        name = f"dish_{number:02}.jpg"
        image.save(folder / name, quality=90)
        shapes = [
            {"label": kind, "points": corners.round(1).tolist(), "shape_type": "polygon", "group_id": None, "flags": {}}
            for kind, corners in objects
        ]
        found = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None}
        found |= {"imageHeight": HEIGHT, "imageWidth": WIDTH}
        (folder / name).with_suffix(".json").write_text(json.dumps(found))
    print(f"{folder}: {photos} photos with outlines")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
