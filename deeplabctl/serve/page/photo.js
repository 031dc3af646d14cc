/**
 * Return what to send of a file, and how to show it: {blob, url, width, height, note}.
 *
 * A photo that is larger than the server takes, or of a format that only the browser knows, becomes a JPEG that fits.
 */
export async function prepare(file, limits) {
  const url = URL.createObjectURL(file);
  let image;
  try {
    image = await load(url);
  } catch {
    URL.revokeObjectURL(url);
    throw new Error("This browser cannot show this file. Use a JPEG, PNG or WebP image.");
  }
  const { naturalWidth: width, naturalHeight: height } = image;
  const scale = Math.min(1, Math.sqrt(limits.max_pixels / (width * height)));
  const room = limits.max_body - 4096; // for the rest of the request
  if (scale === 1 && file.size <= room && limits.formats.includes(file.type)) {
    return { blob: file, url, width, height, note: "" };
  }
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.floor(width * scale));
  canvas.height = Math.max(1, Math.floor(height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // behind transparent parts, as the server has it
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  URL.revokeObjectURL(url);
  if (!blob || blob.size > room) throw new Error("This photo is too large for the server. Use a smaller one.");
  const sizes = `${width} × ${height} to ${canvas.width} × ${canvas.height}`;
  const note = scale < 1
    ? `Scaled down from ${sizes} pixels, this server's limit.`
    : "Sent as a JPEG, which this server accepts.";
  return { blob, url: URL.createObjectURL(blob), width: canvas.width, height: canvas.height, note };
}

async function load(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}
