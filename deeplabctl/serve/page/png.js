/**
 * Return {width, height, ids} of an 8-bit palette PNG.
 *
 * Not by a canvas: some browsers change the pixels that are read from one, against fingerprinting.
 */
export async function decodeMask(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const packed = [];
  let width = 0, height = 0;
  for (let at = 8; at < bytes.length; ) {
    const size = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (kind === "IHDR") [width, height] = [view.getUint32(at + 8), view.getUint32(at + 12)];
    if (kind === "IDAT") packed.push(bytes.subarray(at + 8, at + 8 + size));
    at += size + 12;
  }
  const stream = new Blob(packed).stream().pipeThrough(new DecompressionStream("deflate"));
  return { width, height, ids: unfiltered(new Uint8Array(await new Response(stream).arrayBuffer()), width, height) };
}

/** Return the pixels of rows that each begin with the number of their filter (PNG, section 9). */
function unfiltered(rows, width, height) {
  const ids = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const filter = rows[y * (width + 1)], from = y * (width + 1) + 1, to = y * width;
    for (let x = 0; x < width; x++) {
      const left = x ? ids[to + x - 1] : 0, above = y ? ids[to + x - width] : 0;
      const corner = x && y ? ids[to + x - width - 1] : 0;
      const predicted = filter === 4 ? paeth(left, above, corner) : [0, left, above, (left + above) >> 1][filter];
      ids[to + x] = rows[from + x] + predicted;
    }
  }
  return ids;
}

function paeth(left, above, corner) {
  const [a, b, c] = [Math.abs(above - corner), Math.abs(left - corner), Math.abs(left + above - 2 * corner)];
  return a <= b && a <= c ? left : b <= c ? above : corner;
}
