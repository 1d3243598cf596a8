// A mask over an image, painted by mouse, finger or pen. It is kept as what the server keeps: a PNG of
// one channel, 0 or 255, as large as the upright image, as base64; "" for nothing painted.
(() => {
  const MOST = 1.5e6; // pixels of the canvas, as many as the preview has; larger images are scaled
  const PAINTED = [53, 194, 255, 255];
  const BARE = [0, 0, 0, 0];
  const PEN_ERASER = 5; // pointer button
  const EDGE = 128; // of an edge that the canvas smoothed, what is painted

  const CRC = Uint32Array.from({ length: 256 }, (_, value) => {
    for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
    return value;
  });

  function chunk(type, data) {
    const bytes = new Uint8Array(data.length + 12);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, data.length);
    bytes.set(new TextEncoder().encode(type), 4);
    bytes.set(data, 8);
    const crc = bytes.subarray(4, -4).reduce((sum, byte) => CRC[(sum ^ byte) & 255] ^ (sum >>> 8), 0xffffffff);
    view.setUint32(data.length + 8, ~crc);
    return bytes;
  }

  // A canvas would write four channels. pixels: of the canvas, which may be smaller than width x height
  async function pngOf(pixels, width, height) {
    const raw = new Uint8Array((width + 1) * height); // a row: its filter, which is none, and its pixels
    const alphas = Uint32Array.from({ length: width }, (_, x) => 4 * Math.floor((x * pixels.width) / width) + 3);
    for (let y = 0, last = -1; y < height; y += 1) {
      const [start, from] = [y * (width + 1), 4 * Math.floor((y * pixels.height) / height) * pixels.width];
      if (from === last) raw.copyWithin(start, start - width - 1, start);
      else
        for (let x = 0; x < width; x += 1)
          if (pixels.data[from + alphas[x]] >= EDGE) raw[start + 1 + x] = 255;
      last = from;
    }
    if (!raw.includes(255)) return "";
    const packed = new Blob([raw]).stream().pipeThrough(new CompressionStream("deflate"));
    const header = new Uint8Array(13);
    new DataView(header.buffer).setUint32(0, width);
    new DataView(header.buffer).setUint32(4, height);
    header[8] = 8; // bits, of one channel: gray
    const data = chunk("IDAT", new Uint8Array(await new Response(packed).arrayBuffer()));
    const signature = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
    const reader = new FileReader();
    reader.readAsDataURL(new Blob([signature, chunk("IHDR", header), data, chunk("IEND", new Uint8Array())]));
    await new Promise((resolve) => (reader.onload = resolve));
    return reader.result.split(",")[1];
  }

  // paper: the element around the image, with canvas.mask and .brush-ring in it. current(): {width,
  // height, mask} of the image, or null. mask may be a promise. changed(): the mask or the brush is
  // another now.
  function brushOver(paper, current, changed) {
    const canvas = paper.querySelector("canvas.mask");
    const ring = paper.querySelector(".brush-ring");
    const context = canvas.getContext("2d", { willReadFrequently: true });
    let tool = ""; // "paint", "erase", or "" for boxes
    let share = 1 / 24; // of the longer side, the brush's diameter
    let shown = null;
    let stroke = null;

    const diameter = () => Math.max(1, Math.round(share * Math.max(current()?.width || 0, current()?.height || 0)));

    async function render() {
      const entry = current();
      if (!entry || entry === shown) return;
      shown = entry;
      stroke = null;
      const scale = Math.min(1, Math.sqrt(MOST / (entry.width * entry.height)));
      [canvas.width, canvas.height] = [entry.width, entry.height].map((side) => Math.max(1, Math.round(side * scale)));
      const mask = await entry.mask;
      if (!mask) return;
      const image = new Image();
      image.src = `data:image/png;base64,${mask}`;
      await image.decode();
      if (current() !== entry) return;
      context.imageSmoothingEnabled = false;
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
      const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
      for (let i = 0; i < pixels.data.length; i += 4)
        pixels.data.set(pixels.data[i] >= EDGE ? PAINTED : BARE, i);
      context.putImageData(pixels, 0, 0);
    }

    function keep(entry) {
      const mask = pngOf(context.getImageData(0, 0, canvas.width, canvas.height), entry.width, entry.height);
      entry.mask = mask;
      mask.then((text) => {
        if (entry.mask !== mask) return; // painted on meanwhile
        entry.mask = text;
        changed();
      }, () => {}); // whoever sends it is told
    }

    function use(name) {
      tool = tool === name ? "" : name; // pressed again, boxes
      paper.classList.toggle("brushing", Boolean(tool));
      changed();
    }

    function resize(factor) {
      share = Math.min(0.5, Math.max(1 / 400, share * factor));
      changed();
    }

    function place(event) {
      const { left, top, width, height } = paper.getBoundingClientRect();
      return [(event.clientX - left) / width, (event.clientY - top) / height];
    }

    function showRing(event) {
      const [x, y] = place(event);
      const { width, height } = current();
      Object.assign(ring.style, { left: `${100 * x}%`, top: `${100 * y}%`, width: `${(100 * diameter()) / width}%`, height: `${(100 * diameter()) / height}%` });
    }

    function paintTo(event) {
      const to = place(event).map((part, side) => part * [canvas.width, canvas.height][side]);
      context.globalCompositeOperation = stroke.erases ? "destination-out" : "source-over";
      context.strokeStyle = `rgb(${PAINTED.slice(0, 3)})`;
      context.lineWidth = (diameter() * canvas.width) / current().width;
      context.lineCap = "round";
      context.beginPath();
      context.moveTo(...(stroke.last || to));
      context.lineTo(...to);
      context.stroke();
      context.globalCompositeOperation = "source-over";
      stroke.last = to;
    }

    canvas.addEventListener("pointerdown", (event) => {
      event.stopPropagation(); // no box
      if (!tool || stroke || !current() || ![0, PEN_ERASER].includes(event.button)) return;
      document.activeElement?.blur?.();
      canvas.setPointerCapture(event.pointerId);
      stroke = { id: event.pointerId, erases: tool === "erase" || event.button === PEN_ERASER };
      paintTo(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (current()) showRing(event);
      if (event.pointerId === stroke?.id) paintTo(event);
    });
    function end(event) {
      if (event.pointerId !== stroke?.id) return;
      stroke = null;
      keep(shown);
    }
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);

    return {
      render,
      paint: () => use("paint"),
      erase: () => use("erase"),
      off: () => use(""),
      thinner: () => resize(1 / 1.4),
      thicker: () => resize(1.4),
      state: () => ({ tool, diameter: diameter() }),
    };
  }

  Object.assign(window.chip, { brushOver });
})();
