// A mask over an image, painted by mouse, finger or pen. It is kept as base64 of a black and white PNG, as
// large as the canvas (mask_size of the image); "" for nothing painted.
(() => {
  // Pixels as Uint32, little-endian ABGR
  const PAINTED = 0xffffc235;
  const COLOR = "#35c2ff"; // the same
  const [WHITE, BLACK] = [0xffffffff, 0xff000000];
  const PEN_ERASER = 5; // pointer button

  function pngOf(context) {
    const { width, height } = context.canvas;
    const pixels = context.getImageData(0, 0, width, height);
    const words = new Uint32Array(pixels.data.buffer);
    let painted = false;
    for (let i = 0; i < words.length; i += 1) {
      const opaque = words[i] >>> 31 === 1; // edges are smooth: at least half
      painted ||= opaque;
      words[i] = opaque ? WHITE : BLACK;
    }
    if (!painted) return "";
    const copy = Object.assign(document.createElement("canvas"), { width, height });
    copy.getContext("2d").putImageData(pixels, 0, 0);
    return copy.toDataURL("image/png").split(",")[1];
  }

  // paper: the element around the image, with .layers, canvas.mask and .brush-ring in it. current(): {width, height,
  // mask_size, mask} of the image, or null. changed(): the mask or the brush has changed.
  function brushOver(paper, current, changed) {
    const layers = paper.querySelector(".layers");
    const canvas = paper.querySelector("canvas.mask");
    const ring = paper.querySelector(".brush-ring");
    const context = canvas.getContext("2d", { willReadFrequently: true });
    let tool = ""; // "paint", "erase", or "" for shapes
    let share = 1 / 24; // of the longer side, the brush's diameter
    let shown = null;
    let loading = null; // the mask that is being decoded; nothing is painted meanwhile
    let stroke = null;

    const diameter = () => Math.max(1, Math.round(share * Math.max(current()?.width || 0, current()?.height || 0)));

    async function render() {
      const entry = current();
      if (!entry || entry === shown) return;
      shown = entry;
      stroke = null;
      [canvas.width, canvas.height] = entry.mask_size;
      const image = (loading = entry.mask && new Image());
      if (!image) return;
      image.src = `data:image/png;base64,${entry.mask}`;
      await image.decode().catch(() => {});
      if (loading !== image) return; // another image is shown
      loading = null;
      context.imageSmoothingEnabled = false;
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
      const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
      const words = new Uint32Array(pixels.data.buffer);
      for (let i = 0; i < words.length; i += 1) words[i] = words[i] & 0x80 ? PAINTED : 0;
      context.putImageData(pixels, 0, 0);
    }

    function use(name) {
      tool = tool === name ? "" : name; // pressed again, shapes
      paper.classList.toggle("brushing", Boolean(tool));
      changed();
    }

    function resize(factor) {
      share = Math.min(0.5, Math.max(1 / 400, share * factor));
      changed();
    }

    function place(event) {
      const { left, top, width, height } = layers.getBoundingClientRect();
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
      context.strokeStyle = COLOR;
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
      event.stopPropagation(); // no shape
      if (!tool || stroke || loading || !current() || ![0, PEN_ERASER].includes(event.button)) return;
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
      shown.mask = pngOf(context);
      changed();
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
